{{- define "search.env" -}}
{{ include "common.storeUrl" (dict "ctx" . "name" "ELASTICSEARCH" "scheme" "http" "user" "search_service" "path" "" "open" (not .Values.store.standalone.security.enabled)) }}
{{- end -}}
