{{/* The Service that only monitoring uses, and what the Prometheus operator wants to know. */}}
{{- define "common.monitoring" -}}
{{- $full := include "common.fullname" . -}}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "common.metadata" (dict "ctx" . "name" (printf "%s-metrics" $full) "component" "metrics") | nindent 2 }}
spec:
  clusterIP: None
  {{- include "common.ipFamilies" . | nindent 2 }}
  # A pod that is not ready is the one to watch.
  publishNotReadyAddresses: true
  selector: { quartet/service: {{ .Chart.Name }}, app.kubernetes.io/instance: {{ .Release.Name }} }
  ports:
    - { name: admin, port: 9080, targetPort: admin }
{{- if .Values.serviceMonitor.enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "common.metadata" (dict "ctx" . "name" $full "component" "metrics" "labels" .Values.serviceMonitor.labels) | nindent 2 }}
spec:
  selector:
    matchLabels:
      {{- include "common.selector" (dict "ctx" . "component" "metrics") | nindent 6 }}
  namespaceSelector: { matchNames: [{{ .Release.Namespace }}] }
  endpoints:
    - port: admin
      path: /metrics
      interval: {{ .Values.serviceMonitor.interval }}
      # Figures keep the labels that the process gave them; otherwise the operator's own label `service`, the Kubernetes Service, would take the place of theirs.
      honorLabels: true
      relabelings:
        {{- include "common.targetLabels" . | nindent 8 }}
{{- end }}
{{- if .Values.prometheusRule.enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  {{- include "common.metadata" (dict "ctx" . "name" $full "component" "metrics" "labels" .Values.prometheusRule.labels) | nindent 2 }}
spec:
  groups:
    - name: {{ $full }}
      rules:
        - alert: QuartetProcessDown
          expr: up{job="{{ $full }}-metrics",namespace="{{ .Release.Namespace }}"} == 0
          for: 2m
          labels: { severity: critical, service: {{ .Chart.Name }} }
          annotations:
            summary: {{ printf "A process of %s does not answer Prometheus" .Chart.Name }}
        - alert: QuartetServiceGone
          expr: absent(up{job="{{ $full }}-metrics",namespace="{{ .Release.Namespace }}"} == 1)
          for: 2m
          labels: { severity: critical, service: {{ .Chart.Name }} }
          annotations:
            summary: {{ printf "No process of %s runs" .Chart.Name }}
        {{- if hasKey .Values.roles "relay" }}
        - alert: QuartetOutboxLags
          expr: max(quartet_outbox_lag_seconds{job="{{ $full }}-metrics",namespace="{{ .Release.Namespace }}"}) > 30
          for: 1m
          labels: { severity: warning, service: {{ .Chart.Name }} }
          annotations:
            summary: {{ printf "Events of %s wait for more than 30 s to be published" .Chart.Name }}
        {{- end }}
        {{- if hasKey .Values.roles "projector" }}
        - alert: QuartetReadModelStale
          expr: max(quartet_projection_staleness_seconds{job="{{ $full }}-metrics",namespace="{{ .Release.Namespace }}"}) > 30
          for: 1m
          labels: { severity: warning, service: {{ .Chart.Name }} }
          annotations:
            summary: {{ printf "What %s shows is more than 30 s old" .Chart.Name }}
        - alert: QuartetEventParked
          expr: increase(quartet_projection_dead_letters_total{job="{{ $full }}-metrics",namespace="{{ .Release.Namespace }}"}[10m]) > 0
          labels: { severity: warning, service: {{ .Chart.Name }} }
          annotations:
            summary: {{ printf "%s parked an event that it could not apply" .Chart.Name }}
        {{- end }}
{{- end }}
{{- end -}}

{{/* By these the dashboards know a process of Quartet from any other. */}}
{{- define "common.targetLabels" -}}
- { sourceLabels: [__meta_kubernetes_pod_label_app_kubernetes_io_component], targetLabel: role }
- { sourceLabels: [__meta_kubernetes_service_label_app_kubernetes_io_name], targetLabel: service }
- { sourceLabels: [__meta_kubernetes_service_label_app_kubernetes_io_part_of], targetLabel: part_of }
{{- end -}}

{{/*
`helm test`: a client of the service, in a pod of the service's image. It takes an identity as a process of Quartet would, and asks for what the
service says of itself, its store included. dict "ctx" . "script" "<ES module>"
*/}}
{{- define "common.testPod" -}}
---
apiVersion: v1
kind: Pod
metadata:
  {{- include "common.metadata" (dict "ctx" .ctx "name" (printf "%s-test" (include "common.fullname" .ctx)) "component" "test" "labels" (merge (dict "quartet/test" .ctx.Chart.Name) (.ctx.Values.podLabels | default dict)) "annotations" (merge (dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation") (.ctx.Values.podAnnotations | default dict))) | nindent 2 }}
spec:
  restartPolicy: Never
  serviceAccountName: {{ include "common.accountName" .ctx }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  activeDeadlineSeconds: 180
  securityContext:
    {{- include "common.podSecurity" (dict "uid" 1000) | nindent 4 }}
  containers:
    - name: test
      image: {{ include "common.image" (dict "ctx" .ctx "image" .ctx.Values.image) }}
      imagePullPolicy: {{ .ctx.Values.image.pullPolicy }}
      command: [node, --input-type=module, --eval]
      args:
        - |
          {{- .script | nindent 10 }}
      env:
        - { name: TARGET, value: "http://{{ include "common.fullname" .ctx }}:{{ (.ctx.Values.service).port | default 80 }}" }
        - { name: SERVICE, value: {{ .ctx.Chart.Name }} }
        {{- include "common.identityEnv" .ctx | nindent 8 }}
      resources:
        requests: { cpu: 50m, memory: 96Mi, ephemeral-storage: 32Mi }
        limits: { memory: 192Mi, ephemeral-storage: 128Mi }
      securityContext:
        {{- include "common.containerSecurity" .ctx | nindent 8 }}
      volumeMounts:
        - { name: tmp, mountPath: /tmp }
  volumes:
    - { name: tmp, emptyDir: { sizeLimit: 16Mi } }
  {{- include "common.affinity" (dict "ctx" .ctx "component" "test") | nindent 2 }}
  {{- include "common.placement" .ctx | nindent 2 }}
{{- end -}}

{{/* The test of a service that has a store. */}}
{{- define "common.serviceTest" -}}
import { identityConfig, identityHeader, loadConfig, loadKeyring } from "/app/packages/service/src/index.ts";
import { z } from "/app/node_modules/zod/index.js";
const { TARGET, SERVICE } = process.env;
const keyring = loadKeyring(SERVICE, loadConfig(z.object(identityConfig)));
const get = (headers) => fetch(TARGET + "/internal/status", { headers, signal: AbortSignal.timeout(3000) });
const deadline = Date.now() + 120_000;
for (let last = "nothing asked yet"; ; await new Promise((r) => setTimeout(r, 1000))) {
  if (Date.now() > deadline) throw new Error(SERVICE + " is not well: " + last);
  try {
    const stranger = await get({});
    if (stranger.status < 401 || stranger.status > 404) throw new Error("a stranger got " + stranger.status);
    const answer = await get({ [identityHeader]: keyring.sign({ kind: "service", name: SERVICE }, SERVICE) });
    const status = await answer.json();
    if (!answer.ok || !status.store?.up) throw new Error(answer.status + " " + JSON.stringify(status));
    console.log(SERVICE, "answers, its store is up, strangers are refused:", JSON.stringify(status.store));
    break;
  } catch (error) {
    last = error.message;
  }
}
{{- end -}}
