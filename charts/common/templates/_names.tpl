{{/*
Names and labels. In a release "quartet" of the umbrella a chart is quartet-user; alone, `helm install user charts/user` is user.
*/}}
{{- define "common.nameIn" -}}
{{- /* dict "release" "quartet" "chart" "user" */ -}}
{{- if contains .chart .release -}}
{{ .release | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .release .chart | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "common.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ include "common.nameIn" (dict "release" .Release.Name "chart" .Chart.Name) }}
{{- end -}}
{{- end -}}

{{/* Not empty in a release of the umbrella, where the charts find each other by the release's name. */}}
{{- define "common.umbrella" -}}
{{- if ((.Values.global).quartet).umbrella }}yes{{ end -}}
{{- end -}}

{{/* Host of another chart's Service. dict "ctx" . "chart" "session" */}}
{{- define "common.hostOf" -}}
{{- if include "common.umbrella" .ctx -}}
{{ include "common.nameIn" (dict "release" .ctx.Release.Name "chart" .chart) }}
{{- else -}}
{{ .chart }}
{{- end -}}
{{- end -}}

{{/* Labels that select. dict "ctx" . "component" "api" */}}
{{- define "common.selector" -}}
app.kubernetes.io/name: {{ .ctx.Chart.Name }}
app.kubernetes.io/instance: {{ .ctx.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "common.labels" -}}
{{ include "common.selector" . }}
app.kubernetes.io/version: {{ .ctx.Chart.AppVersion | default .ctx.Chart.Version | quote }}
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
{{ if $registry }}{{ $registry }}/{{ end }}{{ .image.repository }}:{{ $tag }}
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
