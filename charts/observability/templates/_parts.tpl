{{/* Labels that select a part. dict "ctx" . "part" "prometheus". The services' policies let in who is named prometheus. */}}
{{- define "observability.selector" -}}
app.kubernetes.io/name: {{ .part }}
app.kubernetes.io/instance: {{ .ctx.Release.Name }}
app.kubernetes.io/component: observability
{{- end -}}

{{/* metadata of a part. dict "ctx" . "part" "prometheus" */}}
{{- define "observability.metadata" -}}
name: {{ include "observability.name" . }}
namespace: {{ .ctx.Release.Namespace }}
labels:
  {{- include "observability.labels" . | nindent 2 }}
{{- end -}}

{{- define "observability.labels" -}}
{{ include "observability.selector" . }}
app.kubernetes.io/version: {{ .ctx.Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/part-of: quartet
app.kubernetes.io/managed-by: {{ .ctx.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .ctx.Chart.Name .ctx.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "observability.name" -}}
{{ printf "%s-%s" (include "common.fullname" .ctx) .part }}
{{- end -}}

{{/* A Deployment of one pod with its Service. dict "ctx" . "part" "grafana" "values" .Values.grafana "port" 3000 "uid" 472 "args" (list) "env" "" "mounts" "" "volumes" "" "ready" "/path" "live" (dict, a probe's handler) "scratch" "256Mi" "config" "what the pod restarts for" */}}
{{- define "observability.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "observability.metadata" . | nindent 2 }}
spec:
  replicas: 1
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      {{- include "observability.selector" . | nindent 6 }}
  template:
    metadata:
      {{- include "common.podMetadata" (dict "ctx" .ctx "labels" (include "observability.labels" .) "annotations" (printf "checksum/config: %s" (.config | sha256sum))) | nindent 6 }}
    spec:
      serviceAccountName: {{ include "common.accountName" .ctx }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext:
        {{- include "common.podSecurity" (dict "uid" .uid) | nindent 8 }}
      containers:
        - name: {{ .part }}
          image: {{ include "common.image" (dict "ctx" .ctx "image" .values.image) }}
          imagePullPolicy: {{ .values.image.pullPolicy }}
          {{- with .args }}
          args: {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with .env }}
          env: {{- . | nindent 12 }}
          {{- end }}
          {{- with .ctx.Values.extraEnvFrom }}
          envFrom: {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            - { name: http, containerPort: {{ .port }} }
          startupProbe:
            httpGet: { path: {{ .ready }}, port: http }
            periodSeconds: 2
            timeoutSeconds: 3
            failureThreshold: 60
          readinessProbe:
            httpGet: { path: {{ .ready }}, port: http }
            periodSeconds: 5
            timeoutSeconds: 3
          livenessProbe:
            {{- toYaml .live | nindent 12 }}
            periodSeconds: 15
            timeoutSeconds: 5
            failureThreshold: 6
          resources: {{- include "common.resources" (dict "resources" .values.resources "scratch" .scratch) | nindent 12 }}
          securityContext:
            {{- include "common.containerSecurity" .ctx | nindent 12 }}
          volumeMounts:
            {{- .mounts | nindent 12 }}
      volumes:
        {{- .volumes | nindent 8 }}
      {{- include "common.affinity" (dict "ctx" .ctx "labels" (include "observability.selector" .)) | nindent 6 }}
      {{- include "common.placement" .ctx | nindent 6 }}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "observability.metadata" . | nindent 2 }}
  {{- with .ctx.Values.service.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "common.ipFamilies" .ctx | nindent 2 }}
  selector:
    {{- include "observability.selector" . | nindent 4 }}
  ports:
    - { name: http, port: {{ .port }}, targetPort: http }
{{- end -}}
