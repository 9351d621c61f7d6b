{{/*
The Ed25519 keys by which services know each other. Each service's private key is a Secret that its own pods alone refer to; everybody's public keys are one
ConfigMap. A Job makes what is absent and leaves what is there, so nothing secret is rendered and a second render is the same.
*/}}

{{/* What the names begin with: the release, or the system that charts installed alone belong to. */}}
{{- define "common.identitySystem" -}}
{{- if include "common.umbrella" . -}}
{{ include "common.bounded" (dict "name" .Release.Name "max" 46) }}
{{- else -}}
{{ .Values.identity.system | default (include "common.fullname" .) }}
{{- end -}}
{{- end -}}

{{- define "common.identitySecretName" -}}
{{ .Values.identity.existingSecret | default (printf "%s-identity-%s" (include "common.identitySystem" .) .Chart.Name) }}
{{- end -}}

{{- define "common.identityPublicName" -}}
{{ .Values.identity.existingConfigMap | default (printf "%s-identity" (include "common.identitySystem" .)) }}
{{- end -}}

{{- define "common.identityEnv" -}}
- name: IDENTITY_KEYS
  valueFrom:
    secretKeyRef: { name: {{ include "common.identitySecretName" . }}, key: keys.json }
- name: IDENTITY_PUBLIC_KEYS
  valueFrom:
    configMapKeyRef: { name: {{ include "common.identityPublicName" . }}, key: keys.json }
{{- end -}}

{{/* The Job of a chart that is installed alone and was not given its keys. */}}
{{- define "common.identity" -}}
{{- if not (or (include "common.umbrella" .) (and .Values.identity.existingSecret .Values.identity.existingConfigMap)) -}}
{{ include "common.identityJob" (dict "ctx" . "name" (include "common.fullname" .) "secrets" (dict .Chart.Name (include "common.identitySecretName" .)) "configMap" (include "common.identityPublicName" .) "image" (include "common.image" (dict "ctx" . "image" .Values.image)) "pullPolicy" .Values.image.pullPolicy) }}
{{- end -}}
{{- end -}}

{{/* dict "ctx" . "secrets" (dict "user" "x") "configMap" "x" "image" "x:1" "pullPolicy" "IfNotPresent" */}}
{{- define "common.identityPod" -}}
{{- $own := dict "app.kubernetes.io/name" .ctx.Chart.Name "app.kubernetes.io/instance" .ctx.Release.Name "app.kubernetes.io/part-of" "quartet" -}}
metadata:
  labels:
    {{- include "common.selector" (dict "ctx" .ctx "component" "identity") | nindent 4 }}
    quartet/keys: {{ .ctx.Chart.Name }}
spec:
  restartPolicy: OnFailure
  serviceAccountName: {{ .account }}
  # The token is mounted below, where this Job alone has it.
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext:
    {{- include "common.podSecurity" (dict "uid" 1000) | nindent 4 }}
  containers:
    - name: keys
      image: {{ .image }}
      imagePullPolicy: {{ .pullPolicy }}
      command: [node, packages/service/src/make-keys.ts]
      env:
        - { name: NAMESPACE, value: {{ .ctx.Release.Namespace }} }
        - { name: PRIVATE_SECRETS, value: {{ toJson .secrets | quote }} }
        - { name: PUBLIC_CONFIG_MAP, value: {{ .configMap }} }
        - { name: LABELS, value: {{ toJson $own | quote }} }
        - { name: NODE_EXTRA_CA_CERTS, value: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt }
      resources:
        requests: { cpu: 20m, memory: 96Mi, ephemeral-storage: 16Mi }
        limits: { memory: 192Mi, ephemeral-storage: 64Mi }
      securityContext:
        {{- include "common.containerSecurity" .ctx | nindent 8 }}
      volumeMounts:
        - { name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true }
        - { name: tmp, mountPath: /tmp }
  volumes:
    - name: token
      projected:
        sources:
          - serviceAccountToken: { path: token, expirationSeconds: 3600 }
          - configMap: { name: kube-root-ca.crt, items: [{ key: ca.crt, path: ca.crt }] }
    - { name: tmp, emptyDir: { sizeLimit: 16Mi } }
  {{- include "common.placement" .ctx | nindent 2 }}
{{- end -}}

{{/* dict "ctx" . "name" "quartet" "secrets" (dict "user" "x") "configMap" "x" "image" "x:1" "pullPolicy" "IfNotPresent" */}}
{{- define "common.identityJob" -}}
{{- $account := printf "%s-keys" .name -}}
{{- $pod := include "common.identityPod" (merge (dict "account" $account) .) -}}
{{- $meta := dict "ctx" .ctx "name" $account "component" "identity" -}}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "common.metadata" $meta | nindent 2 }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "common.metadata" $meta | nindent 2 }}
rules:
  # What is made has no name to limit it by; what is read and changed has.
  - { apiGroups: [""], resources: [secrets, configmaps], verbs: [create] }
  - { apiGroups: [""], resources: [secrets], resourceNames: {{ toJson (values .secrets | sortAlpha) }}, verbs: [get] }
  - { apiGroups: [""], resources: [configmaps], resourceNames: [{{ .configMap }}], verbs: [get, update] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "common.metadata" $meta | nindent 2 }}
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $account }} }
subjects:
  - { kind: ServiceAccount, name: {{ $account }}, namespace: {{ .ctx.Release.Namespace }} }
---
apiVersion: batch/v1
kind: Job
metadata:
  # A Job's pod cannot be changed: what changes it changes the name.
  {{- include "common.metadata" (dict "ctx" .ctx "name" (include "common.bounded" (dict "name" (printf "%s-%s" $account ($pod | sha256sum | trunc 8)) "max" 63)) "component" "identity") | nindent 2 }}
spec:
  backoffLimit: 6
  activeDeadlineSeconds: 900
  ttlSecondsAfterFinished: 86400
  template:
    {{- $pod | nindent 4 }}
{{- $policy := .ctx.Values.networkPolicy | default dict }}
{{- if ne (toString (get $policy "enabled")) "false" }}
---
# To the API server alone, whose address is the cluster's to know: its Service's port and the usual one behind it.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "common.metadata" $meta | nindent 2 }}
spec:
  podSelector:
    matchLabels: { quartet/keys: {{ .ctx.Chart.Name }}, app.kubernetes.io/instance: {{ .ctx.Release.Name }} }
  policyTypes: [Ingress, Egress]
  egress:
    - ports: [{ port: 443 }, { port: 6443 }]
{{- end }}
{{- end -}}
