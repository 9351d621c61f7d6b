{{/*
A Secret whose values are made once and kept: an upgrade reads what is there, an uninstall leaves it (with the volumes it opens).
Values begin with a letter: nats-server would read one that begins with a digit as a number.
dict "ctx" . "name" "x" "component" "store" "keys" (list "password") "length" 32
*/}}
{{- define "common.secretOnce" -}}
{{- $existing := lookup "v1" "Secret" .ctx.Release.Namespace .name -}}
{{- $data := ($existing).data | default dict -}}
{{- $length := .length | default 32 | int -}}
---
apiVersion: v1
kind: Secret
metadata:
  {{- include "common.metadata" (merge (dict "annotations" (dict "helm.sh/resource-policy" "keep")) .) | nindent 2 }}
type: Opaque
data:
  {{- range .keys }}
  {{ . }}: {{ get $data . | default (printf "%s%s" (randAlpha 1) (randAlphaNum (int (sub $length 1))) | b64enc) | quote }}
  {{- end }}
{{- end -}}

{{/* Secret with the NATS password of each service; empty where NATS asks for none. */}}
{{- define "common.natsSecretName" -}}
{{- if .Values.nats.existingSecret -}}
{{ .Values.nats.existingSecret }}
{{- else if include "common.umbrella" . -}}
{{ .Release.Name }}-nats-auth
{{- end -}}
{{- end -}}

{{/* Secret with the passwords of the chart's own store. */}}
{{- define "common.storeSecretName" -}}
{{ .Values.store.standalone.existingSecret | default (printf "%s-store" (include "common.fullname" .)) }}
{{- end -}}

{{/* The URL of the service's store. dict "ctx" . "name" "POSTGRES" "scheme" "postgres" "user" "user_service" "path" "/quartet" "open" false */}}
{{- define "common.storeUrl" -}}
{{- $store := .ctx.Values.store -}}
{{- $host := printf "%s-store:%v" (include "common.fullname" .ctx) $store.port -}}
{{- if eq $store.mode "external" -}}
- name: {{ .name }}_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "store.external.existingSecret: with store.mode external, name the Secret whose key `url` holds the store's URL" $store.external.existingSecret }}
      key: {{ $store.external.key }}
{{- else if .open -}}
- name: {{ .name }}_URL
  value: {{ .scheme }}://{{ $host }}{{ .path }}
{{- else -}}
- name: {{ .name }}_PASSWORD
  valueFrom:
    secretKeyRef: { name: {{ include "common.storeSecretName" .ctx }}, key: password }
- name: {{ .name }}_URL
  value: {{ .scheme }}://{{ .user }}:$({{ .name }}_PASSWORD)@{{ $host }}{{ .path }}
{{- end -}}
{{- end -}}
