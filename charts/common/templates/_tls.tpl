{{/*
TLS from services to their stores and to NATS, by global.tls. A server's certificate is in the Secret <name>-tls (tls.crt, tls.key, ca.crt): made by the Job of
the Secrets, which has an authority of its own for the release, by cert-manager where an issuer is named, or by somebody else.
*/}}

{{- define "common.tlsValues" -}}
{{- get (.Values.global | default dict) "tls" | default dict | toJson -}}
{{- end -}}

{{/* Not empty where the server of that part speaks TLS. dict "ctx" . "part" "nats" */}}
{{- define "common.tls" -}}
{{- $tls := include "common.tlsValues" .ctx | fromJson -}}
{{- if and $tls.enabled (not (has .part ($tls.except | default list))) }}yes{{ end -}}
{{- end -}}

{{/* Not empty where the chart's own store speaks TLS. */}}
{{- define "common.storeTls" -}}
{{- if eq (.Values.store | default dict).mode "standalone" -}}
{{- include "common.tls" (dict "ctx" . "part" .Chart.Name) -}}
{{- end -}}
{{- end -}}

{{/* Secret with the certificate of a part's server. dict "ctx" . "part" "nats" */}}
{{- define "common.tlsSecretName" -}}
{{- $tls := include "common.tlsValues" .ctx | fromJson -}}
{{- $name := .part -}}
{{- if eq .part .ctx.Chart.Name -}}
{{- $name = include "common.fullname" .ctx -}}
{{- else -}}
{{- $name = regexFind "^[^.]+" ((.ctx.Values.nats | default dict).host | default "") | default (include "common.hostOf" (dict "ctx" .ctx "chart" .part)) -}}
{{- end -}}
{{ get ($tls.existingSecrets | default dict) .part | default (printf "%s-tls" $name) }}
{{- end -}}

{{/* Secret (tls.crt, tls.key) and ConfigMap (ca.crt) of the authority that the Job signs with: of the release, or of the system that charts installed alone belong to. */}}
{{- define "common.authorityName" -}}
{{- $tls := include "common.tlsValues" . | fromJson -}}
{{- if $tls.authority -}}
{{ $tls.authority }}
{{- else if include "common.umbrella" . -}}
{{ include "common.bounded" (dict "name" .Release.Name "max" 46) }}-authority
{{- else -}}
{{ (.Values.identity | default dict).system | default (include "common.fullname" .) }}-authority
{{- end -}}
{{- end -}}

{{/* Every name under which the chart's store is asked: its Services' (and of NATS' members each), from other namespaces too, and its own pod's. */}}
{{- define "common.storeNames" -}}
{{- $full := include "common.fullname" . -}}
{{- $store := printf "%s-store" $full -}}
{{- $hosts := list $store -}}
{{- if eq .Chart.Name "nats" -}}
{{- $hosts = list $full $store -}}
{{- range $i := until 5 }}{{ $hosts = append $hosts (printf "%s-%d.%s" $store $i $store) }}{{ end -}}
{{- end -}}
{{- $names := list -}}
{{- range $hosts -}}
{{- $names = concat $names (list . (printf "%s.%s" . $.Release.Namespace) (printf "%s.%s.svc" . $.Release.Namespace)) -}}
{{- end -}}
{{ append $names "localhost" | toJson }}
{{- end -}}

{{/* What the Job makes for the chart's store: the Secret of its certificate by name, or nothing. */}}
{{- define "common.certificates" -}}
{{- $tls := include "common.tlsValues" . | fromJson -}}
{{- if and (include "common.storeTls" .) (not ($tls.issuerRef | default dict).name) (not (get ($tls.existingSecrets | default dict) .Chart.Name)) -}}
{{ include "common.tlsSecretName" (dict "ctx" . "part" .Chart.Name) }}: { part: {{ .Chart.Name }}, names: {{ include "common.storeNames" . }} }
{{- end -}}
{{- end -}}

{{/* Where cert-manager makes it. */}}
{{- define "common.certificate" -}}
{{- $tls := include "common.tlsValues" . | fromJson -}}
{{- $issuer := $tls.issuerRef | default dict -}}
{{- if and (include "common.storeTls" .) $issuer.name (not (get ($tls.existingSecrets | default dict) .Chart.Name)) -}}
{{- $name := include "common.tlsSecretName" (dict "ctx" . "part" .Chart.Name) -}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  {{- include "common.metadata" (dict "ctx" . "name" $name "component" "store") | nindent 2 }}
spec:
  secretName: {{ $name }}
  # Servers read it when they start.
  duration: {{ $tls.duration | default "8760h" }}
  privateKey: { algorithm: ECDSA, size: 256, encoding: PKCS8, rotationPolicy: Always }
  usages: [digital signature, server auth, client auth]
  dnsNames: {{- include "common.storeNames" . | fromJsonArray | toYaml | nindent 4 }}
  issuerRef: { name: {{ $issuer.name }}, kind: {{ $issuer.kind | default "Issuer" }}, group: {{ $issuer.group | default "cert-manager.io" }} }
{{- end -}}
{{- end -}}

{{/* Whom the chart's processes believe beside the public authorities, as volume sources without their path. */}}
{{- define "common.authorities" -}}
{{- $ctx := . -}}
{{- $tls := include "common.tlsValues" . | fromJson -}}
{{- $sources := list -}}
{{- $parts := list -}}
{{- if include "common.storeTls" . }}{{ $parts = append $parts .Chart.Name }}{{ end -}}
{{- if and (hasKey .Values "nats") (include "common.tls" (dict "ctx" . "part" "nats")) }}{{ $parts = append $parts "nats" }}{{ end -}}
{{- $common := false -}}
{{- range $parts -}}
{{- if get ($tls.existingSecrets | default dict) . -}}
{{- $sources = append $sources (dict "kind" "secret" "name" (get $tls.existingSecrets .)) -}}
{{- else if not $common -}}
{{- $common = true -}}
{{- if ($tls.issuerRef | default dict).name -}}
{{- $sources = append $sources (dict "kind" "secret" "name" (include "common.tlsSecretName" (dict "ctx" $ctx "part" .))) -}}
{{- else -}}
{{- $sources = append $sources (dict "kind" "configMap" "name" (include "common.authorityName" $ctx)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.caSecret }}{{ $sources = append $sources (dict "kind" "secret" "name" .) }}{{ end -}}
{{ $sources | uniq | toJson }}
{{- end -}}

{{/* The volume `ca` with ca.crt, or with 0.crt, 1.crt, ... where there are several. */}}
{{- define "common.caVolume" -}}
{{- $sources := include "common.authorities" . | fromJsonArray -}}
{{- if eq (len $sources) 1 -}}
{{- $one := first $sources -}}
- { name: ca, {{ if eq $one.kind "secret" }}secret: { secretName{{ else }}configMap: { name{{ end }}: {{ $one.name }}, items: [{ key: ca.crt, path: ca.crt }] } }
{{- else if $sources -}}
- name: ca
  projected:
    sources:
      {{- range $i, $source := $sources }}
      - {{ $source.kind }}: { name: {{ $source.name }}, items: [{ key: ca.crt, path: {{ $i }}.crt }] }
      {{- end }}
{{- end -}}
{{- end -}}

{{- define "common.caMount" -}}
{{- if ne (include "common.authorities" .) "[]" -}}
- { name: ca, mountPath: /etc/quartet/ca, readOnly: true }
{{- end -}}
{{- end -}}

{{/* Node and libpq read one file. */}}
{{- define "common.caFile" -}}
{{- $sources := include "common.authorities" . | fromJsonArray -}}
{{- if eq (len $sources) 1 }}/etc/quartet/ca/ca.crt{{ else if $sources }}/tmp/authorities.crt{{ end -}}
{{- end -}}

{{/* A command, as JSON, that finds all authorities in that file. dict "ctx" . "command" (list) */}}
{{- define "common.withAuthorities" -}}
{{- if eq (include "common.caFile" .ctx) "/tmp/authorities.crt" -}}
{{ concat (list "sh" "-c" "for file in /etc/quartet/ca/*.crt; do cat \"$file\"; echo; done > /tmp/authorities.crt; exec \"$@\"" "--") .command | toRawJson }}
{{- else -}}
{{ toJson .command }}
{{- end -}}
{{- end -}}
