{{- define "nats.authSecretName" -}}
{{- if .Values.auth.existingSecret -}}
{{ .Values.auth.existingSecret }}
{{- else if include "common.umbrella" . -}}
{{ .Release.Name }}-nats-auth
{{- else -}}
{{ include "common.fullname" . }}-auth
{{- end -}}
{{- end -}}
