{{- define "search.env" -}}
{{ include "common.storeUrl" (dict "ctx" . "name" "ELASTICSEARCH" "scheme" "http" "user" "search_service" "path" "" "open" (not .Values.store.standalone.security.enabled)) }}
{{- with .Values.limits }}
{{ include "common.numbersEnv" (dict "env" $.Values.env "numbers" (dict "MAX_WAITING" .waiting)) | trim }}
{{- end }}
{{- end -}}
