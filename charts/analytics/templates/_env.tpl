{{- define "analytics.env" -}}
{{ include "common.storeUrl" (dict "ctx" . "name" "CLICKHOUSE" "scheme" "http" "user" "analytics_service" "path" "/analytics") }}
{{- with .Values.limits }}
{{ include "common.numbersEnv" (dict "env" $.Values.env "numbers" (dict "QUERY_CONCURRENCY" .questions "HEAVY_QUERY_CONCURRENCY" .heavyQuestions "QUERY_MEMORY_MIB" .questionMemoryMiB "MAX_WAITING" .waiting)) | trim }}
{{- end }}
{{ include "common.backupEnv" . }}
{{- end -}}
