{{/*
Nothing secret is rendered: two renders are the same, whoever renders them and wherever. A Job makes what is absent and leaves what is there. It comes before
everything else, as a hook of Helm (Argo CD's PreSync); applied as a plain Job, pods wait for their Secrets meanwhile.
Each chart says by "<chart>.secrets" which Secrets it needs: a map of name: { part, component, keys }.
*/}}

{{/* Secret with the NATS password of each service; empty where NATS asks for none. */}}
{{- define "common.natsSecretName" -}}
{{- if .Values.nats.existingSecret -}}
{{ .Values.nats.existingSecret }}
{{- else if include "common.umbrella" . -}}
{{ .Release.Name }}-nats-auth
{{- end -}}
{{- end -}}

{{/* What NATS and its clients in the umbrella share. dict "name" "quartet-nats-auth" */}}
{{- define "common.natsSecret" -}}
{{ .name }}: { part: nats, component: auth, keys: [admin, user, session, analytics, search] }
{{- end -}}

{{/* Secret with the passwords of the chart's own store. */}}
{{- define "common.storeSecretName" -}}
{{ .Values.store.standalone.existingSecret | default (printf "%s-store" (include "common.fullname" .)) }}
{{- end -}}

{{/* What a service with a store needs. dict "ctx" . "keys" (list "password") */}}
{{- define "common.serviceSecrets" -}}
{{- $v := .ctx.Values -}}
{{- if and (eq $v.store.mode "standalone") (not $v.store.standalone.existingSecret) }}
{{ include "common.storeSecretName" .ctx }}: { part: {{ .ctx.Chart.Name }}, component: store, keys: {{ toJson .keys }} }
{{- end }}
{{- if and (include "common.umbrella" .ctx) (not $v.nats.existingSecret) }}
{{ include "common.natsSecret" (dict "name" (include "common.natsSecretName" .ctx)) }}
{{- end }}
{{- end -}}

{{/* The URL of the service's store. dict "ctx" . "name" "POSTGRES" "scheme" "postgres" "user" "user_service" "path" "/quartet" "open" false */}}
{{- define "common.storeUrl" -}}
{{- $store := .ctx.Values.store -}}
{{- $host := printf "%s-store:%v" (include "common.fullname" .ctx) $store.port -}}
{{- $scheme := .scheme -}}
{{- $path := .path -}}
{{- if include "common.storeTls" .ctx -}}
{{- if eq .scheme "postgres" }}{{ $path = printf "%s?sslmode=verify-full" .path }}{{ else }}{{ $scheme = printf "%ss" .scheme }}{{ end -}}
{{- end -}}
{{- if eq $store.mode "external" -}}
- name: {{ .name }}_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "store.external.existingSecret: with store.mode external, name the Secret whose key `url` holds the store's URL" $store.external.existingSecret }}
      key: {{ $store.external.key }}
{{- else if .open -}}
- name: {{ .name }}_URL
  value: {{ $scheme }}://{{ $host }}{{ $path }}
{{- else -}}
- name: {{ .name }}_PASSWORD
  valueFrom:
    secretKeyRef: { name: {{ include "common.storeSecretName" .ctx }}, key: password }
- name: {{ .name }}_URL
  value: {{ $scheme }}://{{ .user }}:$({{ .name }}_PASSWORD)@{{ $host }}{{ $path }}
{{- end -}}
{{- end -}}

{{/* The Job of a chart that is installed alone. The image is that of any service. dict "ctx" . "image" (dict) */}}
{{- define "common.secrets" -}}
{{- $ctx := .ctx -}}
{{- if not (include "common.umbrella" $ctx) -}}
{{- $made := include (printf "%s.secrets" $ctx.Chart.Name) $ctx | fromYaml -}}
{{- $identity := include "common.identityMade" $ctx | fromYaml -}}
{{ include "common.secretsJob" (dict "ctx" $ctx "name" (include "common.fullname" $ctx) "passwords" $made "identity" $identity "certificates" (include "common.certificates" $ctx | fromYaml) "image" .image) }}
{{- end -}}
{{- end -}}

{{/* Annotations of what has to be there before the Job, and of the Job. dict "weight" "-10" */}}
{{- define "common.secretsHook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* The arguments of common.secretsJob, and "account". */}}
{{- define "common.secretsPod" -}}
metadata:
  labels:
    {{- include "common.selector" (dict "ctx" .ctx "component" "secrets") | nindent 4 }}
    quartet/secrets: {{ .ctx.Chart.Name }}
spec:
  restartPolicy: Never
  serviceAccountName: {{ .account }}
  # The token is mounted below, where this Job alone has it.
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext:
    {{- include "common.podSecurity" (dict "uid" 1000) | nindent 4 }}
  containers:
    - name: secrets
      image: {{ include "common.image" (dict "ctx" .ctx "image" .image) }}
      imagePullPolicy: {{ .image.pullPolicy }}
      command: [node, packages/service/src/make-secrets.ts]
      env:
        - { name: NAMESPACE, value: {{ .ctx.Release.Namespace }} }
        - { name: PASSWORDS, value: {{ toJson .passwords | quote }} }
        {{- with .identity }}
        - { name: IDENTITY_SECRETS, value: {{ toJson .secrets | quote }} }
        - { name: IDENTITY_CONFIG_MAP, value: {{ .configMap }} }
        {{- end }}
        {{- with .certificates }}
        - { name: CERTIFICATES, value: {{ toJson . | quote }} }
        - { name: AUTHORITY, value: {{ include "common.authorityName" $.ctx }} }
        {{- end }}
        - { name: LABELS, value: {{ toJson (dict "app.kubernetes.io/name" .ctx.Chart.Name "app.kubernetes.io/instance" .ctx.Release.Name "app.kubernetes.io/part-of" "quartet") | quote }} }
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

{{/*
Makes what is absent; nothing where nothing is needed.
dict "ctx" . "name" "quartet" "passwords" (dict, by name of the Secret) "identity" (dict "secrets" (dict "user" "x") "configMap" "x")
     "certificates" (dict, by name of the Secret) "image" (dict)
*/}}
{{- define "common.secretsJob" -}}
{{- $identity := .identity.secrets | default dict -}}
{{- $maps := list -}}
{{- if $identity }}{{ $maps = append $maps .identity.configMap }}{{ end -}}
{{- $authority := list -}}
{{- if .certificates }}{{ $authority = list (include "common.authorityName" .ctx) }}{{ $maps = concat $maps $authority }}{{ end -}}
{{- with concat (keys .passwords) (values $identity) (keys .certificates) $authority | uniq | sortAlpha -}}
{{- $account := printf "%s-secrets" $.name -}}
{{- $pod := include "common.secretsPod" (merge (dict "account" $account) $) -}}
{{- $before := dict "ctx" $.ctx "name" $account "component" "secrets" "annotations" (include "common.secretsHook" (dict "weight" "-10") | fromYaml) -}}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "common.metadata" $before | nindent 2 }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "common.metadata" $before | nindent 2 }}
rules:
  # What is made has no name to limit it by; what is read and changed has. No Secret can be changed.
  - { apiGroups: [""], resources: [secrets], verbs: [create] }
  - { apiGroups: [""], resources: [secrets], resourceNames: {{ toJson . }}, verbs: [get] }
  {{- with $maps }}
  - { apiGroups: [""], resources: [configmaps], verbs: [create] }
  - { apiGroups: [""], resources: [configmaps], resourceNames: {{ toJson . }}, verbs: [get, update] }
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "common.metadata" $before | nindent 2 }}
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $account }} }
subjects:
  - { kind: ServiceAccount, name: {{ $account }}, namespace: {{ $.ctx.Release.Namespace }} }
{{- $policy := $.ctx.Values.networkPolicy | default dict }}
{{- if ne (toString (get $policy "enabled")) "false" }}
---
# To the API server alone, whose address is the cluster's to know: its Service's port and the usual one behind it.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "common.metadata" $before | nindent 2 }}
spec:
  podSelector:
    matchLabels: { quartet/secrets: {{ $.ctx.Chart.Name }}, app.kubernetes.io/instance: {{ $.ctx.Release.Name }} }
  policyTypes: [Ingress, Egress]
  egress:
    - ports: [{ port: 443 }, { port: 6443 }]
{{- end }}
---
apiVersion: batch/v1
kind: Job
metadata:
  # A Job's pod cannot be changed: what changes it changes the name, for those who apply it without Helm.
  {{- include "common.metadata" (dict "ctx" $.ctx "name" (include "common.bounded" (dict "name" (printf "%s-%s" $account ($pod | sha256sum | trunc 8)) "max" 63)) "component" "secrets" "annotations" (include "common.secretsHook" (dict "weight" "-5") | fromYaml)) | nindent 2 }}
spec:
  backoffLimit: 3
  activeDeadlineSeconds: 900
  ttlSecondsAfterFinished: 86400
  podFailurePolicy:
    rules:
      # What another try does not mend: a Secret that is there and has not what is needed.
      - { action: FailJob, onExitCodes: { operator: In, values: [2] } }
  template:
    {{- $pod | nindent 4 }}
{{- end }}
{{- end -}}
