{{- define "user.env" -}}
{{ include "common.storeUrl" (dict "ctx" . "name" "POSTGRES" "scheme" "postgres" "user" "user_service" "path" "/quartet") }}
{{ include "common.backupEnv" . }}
{{- end -}}
