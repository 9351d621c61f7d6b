{{/*
The Ed25519 keys by which services know each other. Each service's private key is a Secret that its own pods alone refer to; everybody's public keys are one
ConfigMap. The Job of _secret.tpl makes them.
*/}}

{{/* What the names begin with: the release, or the system that charts installed alone belong to. */}}
{{- define "common.identitySystem" -}}
{{- if include "common.umbrella" . -}}
{{ include "common.bounded" (dict "name" .Release.Name "max" 46) }}
{{- else -}}
{{ .Values.identity.system | default (include "common.fullname" .) }}
{{- end -}}
{{- end -}}

{{- define "common.identitySecretName" -}}
{{ .Values.identity.existingSecret | default (printf "%s-identity-%s" (include "common.identitySystem" .) .Chart.Name) }}
{{- end -}}

{{- define "common.identityPublicName" -}}
{{ .Values.identity.existingConfigMap | default (printf "%s-identity" (include "common.identitySystem" .)) }}
{{- end -}}

{{- define "common.identityEnv" -}}
- name: IDENTITY_KEYS
  valueFrom:
    secretKeyRef: { name: {{ include "common.identitySecretName" . }}, key: keys.json }
- name: IDENTITY_PUBLIC_KEYS
  valueFrom:
    configMapKeyRef: { name: {{ include "common.identityPublicName" . }}, key: keys.json }
{{- end -}}

{{/* What the Job makes for a service: its key, and its place among the public ones. Nothing for a chart without an identity, or whose keys are given. */}}
{{- define "common.identityMade" -}}
{{- with .Values.identity -}}
{{- if not .existingConfigMap -}}
configMap: {{ include "common.identityPublicName" $ }}
secrets: { {{ $.Chart.Name }}: {{ include "common.identitySecretName" $ }} }
{{- else if not .existingSecret -}}
{{- fail (printf "identity.existingConfigMap: it says the public half of a key of %s, so identity.existingSecret has to name the private one" $.Chart.Name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
