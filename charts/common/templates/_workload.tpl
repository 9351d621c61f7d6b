{{/*
The Deployments of a service: one per role, or one with every role (`mode: all`), and what goes with each.
The caller defines "<chart>.env" with the environment that is its own.
*/}}
{{- define "common.roles" -}}
{{- if .Values.stopped -}}
{{ dict | toJson }}
{{- else if eq .Values.mode "all" -}}
{{ dict "all" .Values.roles.all | toJson }}
{{- else -}}
{{ omit .Values.roles "all" | toJson }}
{{- end -}}
{{- end -}}

{{/* Environment that every process has. dict "ctx" . "role" "api" */}}
{{- define "common.env" -}}
{{- $ctx := .ctx -}}
{{- $v := .ctx.Values -}}
- { name: ROLE, value: {{ .role }} }
- { name: HOST, value: {{ include "common.bindAddress" $ctx | quote }} }
- { name: PORT, value: "8080" }
- { name: ADMIN_PORT, value: "9080" }
{{- if has .role (list "api" "all") }}
# Those who send requests learn of the end of a pod a moment after the pod does: it serves on until they have, and ends their connections in peace.
- { name: DRAIN_MS, value: "7000" }
{{- end }}
- { name: LOG_LEVEL, value: {{ $v.logLevel }} }
- { name: NODE_OPTIONS, value: "--max-old-space-size={{ int $v.heapMiB }}" }
{{ include "common.identityEnv" $ctx }}
{{- if hasKey $v "nats" }}
{{- $scheme := ternary "tls" $v.nats.scheme (eq (include "common.tls" (dict "ctx" $ctx "part" "nats")) "yes") }}
{{- $at := printf "%s:%v" ($v.nats.host | default (include "common.hostOf" (dict "ctx" $ctx "chart" "nats"))) $v.nats.port }}
{{- with include "common.natsSecretName" $ctx }}
- name: NATS_PASSWORD
  valueFrom:
    secretKeyRef: { name: {{ . }}, key: {{ $v.nats.key | default $ctx.Chart.Name }} }
- { name: NATS_URL, value: "{{ $scheme }}://{{ $ctx.Chart.Name }}:$(NATS_PASSWORD)@{{ $at }}" }
{{- else }}
- { name: NATS_URL, value: "{{ $scheme }}://{{ $at }}" }
{{- end }}
{{- end }}
{{- with get ($v.nats | default dict) "replicas" }}
{{- if not (hasKey $v.env "NATS_REPLICAS") }}
- { name: NATS_REPLICAS, value: {{ include "common.natsReplicas" (dict "ctx" $ctx "own" .) | quote }} }
{{- end }}
{{- end }}
{{- with get ($v.nats | default dict) "storeSize" }}
- { name: NATS_STORE_BYTES, value: {{ include "common.natsStoreSize" (dict "ctx" $ctx "own" .) | quote }} }
{{- end }}
{{- range $name, $url := $v.peers | default dict }}
- { name: {{ upper $name }}_URL, value: {{ $url | default (printf "http://%s" (include "common.hostOf" (dict "ctx" $ctx "chart" $name))) | quote }} }
{{- end }}
{{- with include "common.caFile" $ctx }}
- { name: NODE_EXTRA_CA_CERTS, value: {{ . }} }
{{- end }}
{{- range $name, $value := $v.env }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end -}}

{{/* Variables that are numbers, but for those that `env` names too. dict "env" .Values.env "numbers" (dict "NAME" value) */}}
{{- define "common.numbersEnv" -}}
{{- $env := .env -}}
{{- range $name, $value := .numbers }}
{{- if not (hasKey $env $name) }}
- { name: {{ $name }}, value: {{ int64 $value | quote }} }
{{- end }}
{{- end }}
{{- end -}}

{{- define "common.probes" -}}
startupProbe:
  httpGet: { path: /livez, port: admin }
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 60
readinessProbe:
  httpGet: { path: /readyz, port: admin }
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 2
livenessProbe:
  httpGet: { path: /livez, port: admin }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{- define "common.deployments" -}}
{{- $ctx := . -}}
{{- $v := .Values -}}
{{- range $role, $r := include "common.roles" . | fromJson }}
{{- $name := printf "%s-%s" (include "common.fullname" $ctx) $role }}
{{- $serves := has $role (list "api" "all") }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "common.metadata" (dict "ctx" $ctx "name" $name "component" $role) | nindent 2 }}
spec:
  {{- if not ($r.hpa).enabled }}
  replicas: {{ $r.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  minReadySeconds: 3
  strategy:
    type: RollingUpdate
    rollingUpdate: { maxSurge: 1, maxUnavailable: 0 }
  selector:
    matchLabels:
      {{- include "common.selector" (dict "ctx" $ctx "component" $role) | nindent 6 }}
  template:
    metadata:
      {{- $labels := printf "%s\nquartet/service: %s" (include "common.labels" (dict "ctx" $ctx "component" $role)) $ctx.Chart.Name }}
      {{- include "common.podMetadata" (dict "ctx" $ctx "labels" $labels "annotations" "{ prometheus.io/scrape: 'true', prometheus.io/port: '9080' }") | nindent 6 }}
    spec:
      serviceAccountName: {{ include "common.accountName" $ctx }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 40
      securityContext:
        {{- include "common.podSecurity" (dict "uid" 1000) | nindent 8 }}
      {{- include "common.affinity" (dict "ctx" $ctx "component" $role "apart" true "even" true) | nindent 6 }}
      containers:
        - name: {{ $ctx.Chart.Name }}
          image: {{ include "common.image" (dict "ctx" $ctx "image" $v.image) }}
          imagePullPolicy: {{ $v.image.pullPolicy }}
          {{- if eq (include "common.caFile" $ctx) "/tmp/authorities.crt" }}
          {{- $main := printf "services/%s/src/main.ts" $ctx.Chart.Name }}
          command: {{ include "common.withAuthorities" (dict "ctx" $ctx "command" (ternary (list "node" "--watch" $main) (list "node" $main) $v.development)) }}
          {{- end }}
          env:
            {{- include "common.env" (dict "ctx" $ctx "role" $role) | nindent 12 }}
            {{- include (printf "%s.env" $ctx.Chart.Name) $ctx | nindent 12 }}
          {{- with $v.extraEnvFrom }}
          envFrom: {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            {{- if $serves }}
            - { name: http, containerPort: 8080 }
            {{- end }}
            - { name: admin, containerPort: 9080 }
          {{- include "common.probes" $ctx | nindent 10 }}
          resources:
            {{- include "common.resources" (dict "resources" $r.resources "scratch" "256Mi") | nindent 12 }}
          securityContext:
            {{- include "common.containerSecurity" $ctx | replace "readOnlyRootFilesystem: true" (printf "readOnlyRootFilesystem: %t" (not $v.development)) | nindent 12 }}
          volumeMounts:
            - { name: tmp, mountPath: /tmp }
            {{- with include "common.caMount" $ctx }}
            {{- . | nindent 12 }}
            {{- end }}
      volumes:
        - { name: tmp, emptyDir: { sizeLimit: 64Mi } }
        {{- with include "common.caVolume" $ctx }}
        {{- . | nindent 8 }}
        {{- end }}
      {{- include "common.placement" $ctx | nindent 6 }}
{{- if ($r.hpa).enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "common.metadata" (dict "ctx" $ctx "name" $name "component" $role) | nindent 2 }}
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: {{ $name }} }
  minReplicas: {{ $r.replicas }}
  maxReplicas: {{ $r.hpa.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: { type: Utilization, averageUtilization: {{ $r.hpa.targetCPUUtilizationPercentage }} }
{{- end }}
{{- if or (gt (int $r.replicas) 1) ($r.hpa).enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "common.metadata" (dict "ctx" $ctx "name" $name "component" $role) | nindent 2 }}
spec:
  maxUnavailable: 1
  # A pod that does not work anyway must not stop a node from being emptied.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "common.selector" (dict "ctx" $ctx "component" $role) | nindent 6 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "common.service" -}}
{{- $api := ternary "all" "api" (eq .Values.mode "all") -}}
{{- $s := .Values.service | default dict -}}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "common.metadata" (dict "ctx" . "name" (include "common.fullname" .) "component" $api "annotations" $s.annotations) | nindent 2 }}
spec:
  type: {{ $s.type | default "ClusterIP" }}
  {{- include "common.ipFamilies" . | nindent 2 }}
  selector:
    {{- include "common.selector" (dict "ctx" . "component" $api) | nindent 4 }}
  ports:
    - name: http
      port: {{ $s.port | default 80 }}
      targetPort: http
      {{- with $s.nodePort }}
      nodePort: {{ . }}
      {{- end }}
{{- end -}}
