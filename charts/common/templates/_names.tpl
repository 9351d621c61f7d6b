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

{{/* Members of the NATS cluster, and copies of each stream: the umbrella's word for it, else the chart's own. dict "ctx" . "own" 1 */}}
{{- define "common.natsReplicas" -}}
{{- $quartet := get (.ctx.Values.global | default dict) "quartet" | default dict -}}
{{- get $quartet "natsReplicas" | default .own -}}
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

{{/* Where every pod may run, and where its image comes from: the chart's own word, else the umbrella's. */}}
{{- define "common.placement" -}}
{{- $global := .Values.global | default dict -}}
{{- with .Values.imagePullSecrets | default $global.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector | default $global.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations | default $global.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName | default $global.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/*
Which pods are near which. Replicas stay apart where they can, unless the values say something else. A constraint without a selector is about the
replicas of the workload that has it. dict "ctx" . "component" "api" "labels" "<selector, where it is not common.selector>" "apart" true "even" true
*/}}
{{- define "common.affinity" -}}
{{- $labels := .labels | default (include "common.selector" .) -}}
{{- if .ctx.Values.affinity }}
affinity: {{- toYaml .ctx.Values.affinity | nindent 2 }}
{{- else if .apart }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- $labels | nindent 14 }}
{{- end }}
{{- if .ctx.Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range .ctx.Values.topologySpreadConstraints }}
  {{- $own := dict "labelSelector" (dict "matchLabels" (fromYaml $labels)) }}
  - {{- toYaml (merge (deepCopy .) (ternary (dict) $own (hasKey . "labelSelector"))) | nindent 4 }}
  {{- end }}
{{- else if .even }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $labels | nindent 8 }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of a pod: the chart's, and what the values add. dict "ctx" . "labels" "<yaml>" "annotations" "<yaml>" */}}
{{- define "common.podMetadata" -}}
labels:
  {{- .labels | nindent 2 }}
  {{- $own := fromYaml .labels }}
  {{- range $name, $value := .ctx.Values.podLabels }}
  {{- if hasKey $own $name }}{{ fail (printf "podLabels: %s is a label by which this chart finds its pods" $name) }}{{ end }}
  {{ $name }}: {{ $value | quote }}
  {{- end }}
{{- $notes := merge (dict) (.ctx.Values.podAnnotations | default dict) (fromYaml (.annotations | default "")) }}
{{- with $notes }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The account of every pod of the chart that is not about keys. It has no right; an operator may give it some, or tie a cloud's identity to it. */}}
{{- define "common.accountName" -}}
{{- $account := .Values.serviceAccount -}}
{{- if $account.create -}}
{{ $account.name | default (include "common.fullname" .) }}
{{- else -}}
{{ $account.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "common.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "common.metadata" (dict "ctx" . "name" (include "common.accountName" .) "component" "account" "annotations" .Values.serviceAccount.annotations) | nindent 2 }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}
