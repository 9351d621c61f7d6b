{{- define "session.env" -}}
{{ include "common.storeUrl" (dict "ctx" . "name" "REDIS" "scheme" "redis" "user" "session_service" "path" "") }}
{{- with .Values.limits }}
{{ include "common.numbersEnv" (dict "env" $.Values.env "numbers" (dict "MAX_WAITING" .waiting "SESSIONS_PER_USER" .sessionsPerUser)) | trim }}
{{- end }}
{{- end -}}
