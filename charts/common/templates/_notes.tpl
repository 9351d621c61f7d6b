{{/* What NOTES.txt of a service says. */}}
{{- define "common.notes" -}}
{{- $full := include "common.fullname" . -}}
{{ .Chart.Name }} {{ .Chart.AppVersion }} is installed as {{ $full }} in {{ .Release.Namespace }}.

  kubectl -n {{ .Release.Namespace }} get pods -l quartet/service={{ .Chart.Name }},app.kubernetes.io/instance={{ .Release.Name }}
  helm test -n {{ .Release.Namespace }} {{ .Release.Name }}
{{- if hasKey .Values "store" }}
{{ if eq .Values.store.mode "standalone" }}
Its store is {{ $full }}-store; nobody but the service can connect to it. Its passwords are in the Secret {{ include "common.storeSecretName" . }}.
{{- else }}
Its store is outside, at the URL in the Secret {{ .Values.store.external.existingSecret }}.
{{- end }}
{{- if (.Values.backup).enabled }}
A backup is written by the schedule {{ .Values.backup.schedule | quote }}. Now, and back again:
  kubectl -n {{ .Release.Namespace }} create job --from=cronjob/{{ include "common.bounded" (dict "name" (printf "%s-backup" $full) "max" 52) }} backup-now
  kubectl -n {{ .Release.Namespace }} create job --from=cronjob/{{ include "common.bounded" (dict "name" (printf "%s-restore" $full) "max" 52) }} restore-now
{{- end }}
{{- end }}
{{- if not (include "common.umbrella" .) }}

On its own it knows its own key alone: give every chart of one system the same identity.system (see {{ include "common.identityPublicName" . }}), and
restart those that were there before the last one came.
{{- end }}

`helm uninstall` leaves, on purpose: the Secrets made by its Job, the ConfigMap of the public keys, and every PersistentVolumeClaim (and the finished pods of `helm test`). To remove the data too:
  kubectl -n {{ .Release.Namespace }} delete secret,configmap,pvc -l app.kubernetes.io/name={{ .Chart.Name }},app.kubernetes.io/instance={{ .Release.Name }}
{{- end -}}
