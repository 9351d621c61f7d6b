{{/*
NetworkPolicies of a service, its store, its backups and its test: nothing in and nothing out but what is listed here.
Values: networkPolicy.{enabled,public,callers,calls,monitoring,extraEgress}; callers and calls are chart names in the same namespace.
*/}}
{{- define "common.dnsEgress" -}}
- to:
    {{- with (.Values.global).dnsPeers }}
    {{- toYaml . | nindent 4 }}
    {{- else }}
    - namespaceSelector:
        matchLabels: { kubernetes.io/metadata.name: kube-system }
    {{- end }}
  {{- $port := (.Values.global).dnsPort | default 53 }}
  ports: [{ port: {{ $port }}, protocol: UDP }, { port: {{ $port }}, protocol: TCP }]
{{- end -}}

{{/* Families of addresses of a Service: the cluster's own choice unless said. */}}
{{- define "common.ipFamilies" -}}
{{- $global := .Values.global | default dict -}}
{{- with $global.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with $global.ipFamilies }}
{{- if and (gt (len .) 1) (not (has $global.ipFamilyPolicy (list "PreferDualStack" "RequireDualStack"))) }}
{{- fail "global.ipFamilies: a Service has two families only with global.ipFamilyPolicy PreferDualStack or RequireDualStack" }}
{{- end }}
ipFamilies: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* The address on which everything of a pod is listened on: `::` takes IPv4 too, but is refused where a node has no IPv6 at all. */}}
{{- define "common.bindAddress" -}}
{{- $global := .Values.global | default dict -}}
{{- $v6 := or (has "IPv6" ($global.ipFamilies | default list)) (has $global.ipFamilyPolicy (list "PreferDualStack" "RequireDualStack")) -}}
{{ $global.bindAddress | default (ternary "::" "0.0.0.0" $v6) }}
{{- end -}}

{{- define "common.storeEgress" -}}
{{- if eq .Values.store.mode "standalone" -}}
- to:
    - podSelector:
        matchLabels: { quartet/store: {{ .Chart.Name }}, app.kubernetes.io/instance: {{ .Release.Name }} }
  ports: [{ port: {{ .Values.store.port }} }]
{{- else -}}
- to: {{- toYaml .Values.store.external.networkPolicyPeers | nindent 4 }}
  ports: [{ port: {{ .Values.store.external.port }} }]
{{- end -}}
{{- end -}}

{{- define "common.networkPolicies" -}}
{{- if .Values.networkPolicy.enabled -}}
{{- $full := include "common.fullname" . -}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "common.metadata" (dict "ctx" . "name" $full "component" "app") | nindent 2 }}
spec:
  podSelector:
    matchLabels: { quartet/service: {{ .Chart.Name }}, app.kubernetes.io/instance: {{ .Release.Name }} }
  policyTypes: [Ingress, Egress]
  ingress:
    {{- if .Values.networkPolicy.public }}
    - ports: [{ port: http }]
    {{- else }}
    - from:
        {{- range .Values.networkPolicy.callers }}
        - podSelector:
            matchLabels: {{ include "common.podsOf" (dict "ctx" $ "label" "quartet/service" "chart" .) }}
        {{- end }}
        - podSelector:
            matchLabels: { quartet/test: {{ .Chart.Name }}, app.kubernetes.io/instance: {{ .Release.Name }} }
      ports: [{ port: http }]
    {{- end }}
    {{- with .Values.networkPolicy.monitoring }}
    - from: {{- toYaml . | nindent 8 }}
      ports: [{ port: admin }]
    {{- end }}
  egress:
    {{- include "common.dnsEgress" . | nindent 4 }}
    {{- range .Values.networkPolicy.calls }}
    - to:
        - podSelector:
            matchLabels: {{ include "common.podsOf" (dict "ctx" $ "label" "quartet/service" "chart" .) }}
      ports: [{ port: 8080 }]
    {{- end }}
    {{- if hasKey .Values "nats" }}
    {{- if .Values.nats.networkPolicyPeers }}
    - to: {{- toYaml .Values.nats.networkPolicyPeers | nindent 8 }}
    {{- else }}
    - to:
        - podSelector:
            matchLabels: {{ include "common.podsOf" (dict "ctx" . "label" "quartet/store" "chart" "nats") }}
    {{- end }}
      ports: [{ port: {{ .Values.nats.port }} }]
    {{- end }}
    {{- if hasKey .Values "store" }}
    {{- include "common.storeEgress" . | nindent 4 }}
    {{- end }}
    {{- with .Values.networkPolicy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "common.metadata" (dict "ctx" . "name" (printf "%s-test" $full) "component" "test") | nindent 2 }}
spec:
  podSelector:
    matchLabels: { quartet/test: {{ .Chart.Name }}, app.kubernetes.io/instance: {{ .Release.Name }} }
  policyTypes: [Ingress, Egress]
  egress:
    {{- include "common.dnsEgress" . | nindent 4 }}
    - to:
        - podSelector:
            matchLabels: { quartet/service: {{ .Chart.Name }}, app.kubernetes.io/instance: {{ .Release.Name }} }
      ports: [{ port: 8080 }]
{{- if hasKey .Values "store" }}
{{- if eq .Values.store.mode "standalone" }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "common.metadata" (dict "ctx" . "name" (printf "%s-store" $full) "component" "store") | nindent 2 }}
spec:
  podSelector:
    matchLabels: { quartet/store: {{ .Chart.Name }}, app.kubernetes.io/instance: {{ .Release.Name }} }
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - podSelector:
            matchLabels: { quartet/service: {{ .Chart.Name }}, app.kubernetes.io/instance: {{ .Release.Name }} }
        {{- if (.Values.backup).enabled }}
        - podSelector:
            matchLabels: { quartet/owner: {{ .Chart.Name }}, app.kubernetes.io/instance: {{ .Release.Name }} }
        {{- end }}
      ports: [{ port: {{ .Values.store.port }} }]
{{- end }}
{{- if (.Values.backup).enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "common.metadata" (dict "ctx" . "name" (printf "%s-backup" $full) "component" "backup") | nindent 2 }}
spec:
  podSelector:
    matchLabels: { quartet/owner: {{ .Chart.Name }}, app.kubernetes.io/instance: {{ .Release.Name }} }
  policyTypes: [Ingress, Egress]
  egress:
    {{- include "common.dnsEgress" . | nindent 4 }}
    {{- include "common.storeEgress" . | nindent 4 }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
