{{- define "session.env" -}}
{{ include "common.storeUrl" (dict "ctx" . "name" "REDIS" "scheme" "redis" "user" "session_service" "path" "") }}
{{- end -}}
