{{- define "analytics.env" -}}
{{ include "common.storeUrl" (dict "ctx" . "name" "CLICKHOUSE" "scheme" "http" "user" "analytics_service" "path" "/analytics") }}
{{ include "common.backupEnv" . }}
{{- end -}}
