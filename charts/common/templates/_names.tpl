{{/*
Names and labels. In a release "quartet" of the umbrella a chart is quartet-user; alone, `helm install user charts/user` is user.
A name has at most 46 characters: with `-store` it is a StatefulSet's, whose pods have a label of eleven characters more, and a label has at most 63.
Every name that is longer is cut and has a hash of what it would have been, so that two that begin alike stay two.
*/}}

{{/* dict "name" "x" "max" 52 */}}
{{- define "common.bounded" -}}
{{- if le (len .name) (int .max) -}}
{{ .name }}
{{- else -}}
{{ printf "%s-%s" (regexReplaceAll "-+$" (.name | trunc (int (sub .max 7))) "") (.name | sha256sum | trunc 6) }}
{{- end -}}
{{- end -}}

{{/*
dict "release" "quartet" "chart" "user" "umbrella" "yes" or "". A release that says the name of a chart is that chart's name; in the umbrella only
where it says no other chart's too.
*/}}
{{- define "common.nameIn" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .release) -}}
{{- fail (printf "release name %q: Services are named after it, so it begins with a letter and has nothing but a-z, 0-9 and - in it" .release) -}}
{{- end -}}
{{- $others := 0 -}}
{{- if .umbrella -}}
{{- range without (list "user" "session" "analytics" "search" "gateway" "nats" "observability") .chart -}}
{{- if contains . $.release -}}{{- $others = add1 $others -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $whole := printf "%s-%s" .release .chart -}}
{{- if and (contains .chart .release) (eq (int $others) 0) -}}
{{ include "common.bounded" (dict "name" .release "max" 46) }}
{{- else if le (len $whole) 46 -}}
{{ $whole }}
{{- else -}}
{{ printf "%s-%s-%s" (regexReplaceAll "-+$" (.release | trunc (int (sub 38 (len .chart)))) "") (.release | sha256sum | trunc 6) .chart }}
{{- end -}}
{{- end -}}

{{- define "common.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else -}}
{{ include "common.nameIn" (dict "release" .Release.Name "chart" .Chart.Name "umbrella" (include "common.umbrella" .)) }}
{{- end -}}
{{- end -}}

{{/* Not empty in a release of the umbrella, where the charts find each other by the release's name. */}}
{{- define "common.umbrella" -}}
{{- if ((.Values.global).quartet).umbrella }}yes{{ end -}}
{{- end -}}

{{/* Host of another chart's Service. dict "ctx" . "chart" "session" */}}
{{- define "common.hostOf" -}}
{{- if include "common.umbrella" .ctx -}}
{{ include "common.nameIn" (dict "release" .ctx.Release.Name "chart" .chart "umbrella" "yes") }}
{{- else -}}
{{ .chart }}
{{- end -}}
{{- end -}}

{{/* What JetStream may store: the umbrella's word for it, else the chart's own. dict "ctx" . "own" "7GB" */}}
{{- define "common.natsStoreSize" -}}
{{- $quartet := get (.ctx.Values.global | default dict) "quartet" | default dict -}}
{{- get $quartet "natsStoreSize" | default .own -}}
{{- end -}}

{{/* Labels that select. dict "ctx" . "component" "api" */}}
{{- define "common.selector" -}}
app.kubernetes.io/name: {{ .ctx.Chart.Name }}
app.kubernetes.io/instance: {{ .ctx.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/*
Selects the pods of another chart; in the umbrella those of this release alone. dict "ctx" . "label" "quartet/service" "chart" "user"
*/}}
{{- define "common.podsOf" -}}
{ {{ .label }}: {{ .chart }}{{ if include "common.umbrella" .ctx }}, app.kubernetes.io/instance: {{ .ctx.Release.Name }}{{ end }} }
{{- end -}}

{{- define "common.labels" -}}
{{ include "common.selector" . }}
app.kubernetes.io/version: {{ .ctx.Chart.AppVersion | default .ctx.Chart.Version | replace "+" "_" | quote }}
app.kubernetes.io/part-of: quartet
app.kubernetes.io/managed-by: {{ .ctx.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .ctx.Chart.Name .ctx.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* metadata of an object. dict "ctx" . "name" "x" "component" "api" "labels" (dict) "annotations" (dict) */}}
{{- define "common.metadata" -}}
name: {{ .name }}
namespace: {{ .ctx.Release.Namespace }}
labels:
  {{- include "common.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "common.image" -}}
{{- $tag := .image.tag | default .ctx.Chart.AppVersion -}}
{{- $registry := (.ctx.Values.global).imageRegistry | default "" -}}
{{ if $registry }}{{ $registry }}/{{ end }}{{ .image.repository }}:{{ $tag }}{{ with .image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{/* Where pods may run. */}}
{{- define "common.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
