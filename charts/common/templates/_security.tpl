{{/* Pod Security "restricted", and a read-only root on top. dict "uid" 1000 */}}
{{- define "common.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .uid }}
runAsGroup: {{ .uid }}
fsGroup: {{ .uid }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "common.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Requests and limits, with a bound for what is written beside the volumes (logs, /tmp). dict "resources" (dict) "scratch" "256Mi" */}}
{{- define "common.resources" -}}
{{- $bound := dict "requests" (dict "ephemeral-storage" "32Mi") "limits" (dict "ephemeral-storage" .scratch) -}}
{{- toYaml (merge (deepCopy .resources) $bound) -}}
{{- end -}}
