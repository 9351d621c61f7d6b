{{- define "gateway.operatorSecretName" -}}
{{- .Values.operator.existingSecret | default (printf "%s-operator" (include "common.fullname" .)) -}}
{{- end -}}
{{- define "gateway.env" -}}
- name: QUARTET_OPERATOR_TOKEN
  valueFrom:
    secretKeyRef: { name: {{ include "gateway.operatorSecretName" . }}, key: operator-token }
{{- $l := .Values.limits }}
- { name: RATE_LIMITS, value: {{ ternary "on" "off" $l.enabled | quote }} }
{{- with $l.trustProxy }}
- { name: TRUST_PROXY, value: {{ toString . | quote }} }
{{- end }}
- { name: RATE_LIMIT_OPERATOR, value: {{ $l.operator }} }
- { name: RATE_LIMIT_CLIENTS, value: {{ int $l.clients | quote }} }
{{- range $name, $variable := dict "signUp" "SIGN_UP" "login" "LOGIN" "track" "TRACK" "search" "SEARCH" "analytics" "ANALYTICS" "other" "OTHER" }}
- { name: RATE_LIMIT_{{ $variable }}, value: {{ get $l $name | quote }} }
{{- end }}
- { name: MAX_BUFFERED_BYTES, value: {{ int64 $l.bufferedBytes | quote }} }
- { name: MAX_BUFFERED_ANSWER_BYTES, value: {{ int64 $l.bufferedAnswerBytes | quote }} }
- { name: MAX_WAITING, value: {{ int64 $l.waiting | quote }} }
- { name: MAX_WAITING_PER_CLIENT, value: {{ int64 $l.waitingPerClient | quote }} }
- { name: MAX_CONCURRENT_PER_CLIENT, value: {{ int64 $l.concurrentPerClient | quote }} }
{{- end -}}
{{/* Alone it answers for itself; with the services behind it, it says so of each. */}}
{{- define "gateway.test" -}}
const { TARGET } = process.env;
const get = (path) => fetch(TARGET + path, { signal: AbortSignal.timeout(3000) });
const deadline = Date.now() + 60_000;
for (let last = "nothing asked yet"; ; await new Promise((r) => setTimeout(r, 1000))) {
  if (Date.now() > deadline) throw new Error("the gateway is not well: " + last);
  try {
    const document = await get("/openapi.json");
    if (!document.ok) throw new Error("/openapi.json " + document.status);
    const stranger = await get("/v1/admin/status");
    if (stranger.status !== 401 && stranger.status !== 403) throw new Error("a stranger got " + stranger.status + " from /v1/admin/status");
    const inside = await get("/internal/status");
    if (inside.status !== 404) throw new Error("an internal path got " + inside.status);
    console.log("the gateway answers, and refuses strangers and internal paths");
    break;
  } catch (error) {
    last = error.message;
  }
}
{{- end -}}
{{- define "gateway.plainText" -}}
{{- if eq .Values.service.type "LoadBalancer" }}
WARNING: service.type LoadBalancer gives plain HTTP to whoever reaches its address: passwords and tokens can be read on the way. Use ingress or httpRoute with
TLS (the README's values), or a load balancer that terminates TLS by service.annotations.
{{- end }}
{{- if and .Values.ingress.enabled .Values.ingress.plain }}
WARNING: ingress.plain: passwords and tokens go in plain text to the Ingress controller.
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.plain) }}
The API: https://{{ first .Values.ingress.hosts }}
{{- end }}
{{- end -}}
