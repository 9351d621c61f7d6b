{{/*
A store as a StatefulSet with a headless Service and a volume per pod.
dict "ctx" . "uid" 999 "data" "/path" "env" "<yaml>" "command" (list) "args" (list) "mounts" "<yaml>" "volumes" "<yaml>" "initContainers" "<yaml>"
     "probe" (dict, the action of the startup and readiness probes) "ports" "<yaml>" more ports, "envFrom" (list), "replicas" 1, "alive" "store" (the port of the liveness probe), "config" what a restart has to follow
*/}}
{{- define "common.store" -}}
{{- $s := .ctx.Values.store.standalone -}}
{{- $name := printf "%s-store" (include "common.fullname" .ctx) -}}
{{- $replicas := int (.replicas | default 1) -}}
{{- $certificate := "" -}}
{{- if include "common.storeTls" .ctx }}{{ $certificate = include "common.tlsSecretName" (dict "ctx" .ctx "part" .ctx.Chart.Name) }}{{ end -}}
{{- include "common.volumeFits" (dict "part" .ctx.Chart.Name "persistence" $s.persistence "existing" (lookup "apps/v1" "StatefulSet" .ctx.Release.Namespace $name)) -}}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "common.metadata" (dict "ctx" .ctx "name" $name "component" "store") | nindent 2 }}
spec:
  clusterIP: None
  {{- include "common.ipFamilies" .ctx | nindent 2 }}
  # The members of a cluster meet before they are ready; a client of a single store has nobody else to ask.
  publishNotReadyAddresses: {{ gt $replicas 1 }}
  selector:
    {{- include "common.selector" (dict "ctx" .ctx "component" "store") | nindent 4 }}
  ports:
    - { name: store, port: {{ .ctx.Values.store.port }}, targetPort: store }
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- include "common.metadata" (dict "ctx" .ctx "name" $name "component" "store") | nindent 2 }}
spec:
  serviceName: {{ $name }}
  replicas: {{ $replicas }}
  podManagementPolicy: Parallel
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      {{- include "common.selector" (dict "ctx" .ctx "component" "store") | nindent 6 }}
  template:
    metadata:
      # Nothing here changes with the version of the chart: an upgrade restarts a store only if the store itself is another.
      {{- $labels := printf "%s\napp.kubernetes.io/part-of: quartet\nquartet/store: %s" (include "common.selector" (dict "ctx" .ctx "component" "store")) .ctx.Chart.Name }}
      {{- $notes := "" }}
      {{- with .config }}{{ $notes = printf "checksum/config: %s" (toJson . | sha256sum) }}{{ end }}
      {{- include "common.podMetadata" (dict "ctx" .ctx "labels" $labels "annotations" $notes) | nindent 6 }}
    spec:
      serviceAccountName: {{ include "common.accountName" .ctx }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 60
      securityContext:
        {{- include "common.podSecurity" (dict "uid" .uid) | nindent 8 }}
      {{- include "common.affinity" (dict "ctx" .ctx "component" "store" "apart" (gt $replicas 1)) | nindent 6 }}
      {{- with .initContainers }}
      initContainers:
        {{- . | nindent 8 }}
      {{- end }}
      containers:
        - name: store
          image: {{ include "common.image" (dict "ctx" .ctx "image" $s.image) }}
          imagePullPolicy: {{ $s.image.pullPolicy }}
          {{- with .command }}
          command: {{ toJson . }}
          {{- end }}
          {{- with .args }}
          args: {{ toJson . }}
          {{- end }}
          {{- with .env }}
          env:
            {{- . | nindent 12 }}
          {{- end }}
          {{- with .envFrom }}
          envFrom: {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            - { name: store, containerPort: {{ .ctx.Values.store.port }} }
            {{- with .ports }}
            {{- . | nindent 12 }}
            {{- end }}
          # Ten minutes: a store that recovers from a long log must not be shot while it does.
          startupProbe:
            {{- toYaml .probe | nindent 12 }}
            periodSeconds: 2
            timeoutSeconds: 5
            failureThreshold: 300
          readinessProbe:
            {{- toYaml .probe | nindent 12 }}
            periodSeconds: 5
            timeoutSeconds: 5
          livenessProbe:
            tcpSocket: { port: {{ .alive | default "store" }} }
            periodSeconds: 20
            timeoutSeconds: 5
            failureThreshold: 6
          resources:
            {{- include "common.resources" (dict "resources" $s.resources "scratch" "2Gi") | nindent 12 }}
          securityContext:
            {{- include "common.containerSecurity" .ctx | nindent 12 }}
          volumeMounts:
            - { name: data, mountPath: {{ .data }} }
            - { name: tmp, mountPath: /tmp }
            {{- with $certificate }}
            - { name: tls, mountPath: /etc/quartet/tls, readOnly: true }
            {{- end }}
            {{- with .mounts }}
            {{- . | nindent 12 }}
            {{- end }}
      volumes:
        - { name: tmp, emptyDir: { sizeLimit: 256Mi } }
        {{- with $certificate }}
        # 0440, root's and the pod's group's: PostgreSQL insists on no more than that.
        - { name: tls, secret: { secretName: {{ . }}, defaultMode: 288 } }
        {{- end }}
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
      {{- include "common.placement" .ctx | nindent 6 }}
  persistentVolumeClaimRetentionPolicy: { whenDeleted: Retain, whenScaled: Retain }
  volumeClaimTemplates:
    - metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $s.persistence.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ $s.persistence.size }}
{{- if gt $replicas 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "common.metadata" (dict "ctx" .ctx "name" $name "component" "store") | nindent 2 }}
spec:
  maxUnavailable: 1
  # A member that does not work still has the data: it goes when the others have theirs.
  unhealthyPodEvictionPolicy: IfHealthyBudget
  selector:
    matchLabels:
      {{- include "common.selector" (dict "ctx" .ctx "component" "store") | nindent 6 }}
{{- end }}
{{- end -}}

{{/* Bytes of a quantity such as 8Gi, 500M or 1024. */}}
{{- define "common.bytes" -}}
{{- $factors := dict "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "m" 0.001 -}}
{{- $unit := regexFind "[A-Za-z]+$" (toString .) -}}
{{- mulf (float64 (trimSuffix $unit (toString .))) (get $factors $unit | default 1.0) | int64 -}}
{{- end -}}

{{/*
Nothing, or one line that says what to do: Kubernetes takes no other claim template for a StatefulSet that is there. Only a Helm that asks the cluster
notices. dict "part" "user" "persistence" (dict "size" "8Gi" "storageClass" "") "existing" (the StatefulSet, or an empty dict)
*/}}
{{- define "common.volumeFits" -}}
{{- with ((.existing).spec).volumeClaimTemplates -}}
{{- $had := (index . 0).spec -}}
{{- $was := include "common.bytes" $had.resources.requests.storage | int64 -}}
{{- $is := include "common.bytes" $.persistence.size | int64 -}}
{{- if gt $is $was -}}
{{- fail (printf "%s: persistence.size is %v and its volumes are of %v: `k8s/grow-volume.sh %s %v` first, then this again" $.part $.persistence.size $had.resources.requests.storage $.part $.persistence.size) -}}
{{- else if lt $is $was -}}
{{- fail (printf "%s: persistence.size is %v and its volumes are of %v: a volume does not shrink" $.part $.persistence.size $had.resources.requests.storage) -}}
{{- end -}}
{{- if ne ($.persistence.storageClass | default "") ($had.storageClassName | default "") -}}
{{- fail (printf "%s: persistence.storageClass is %q and its volumes are of %q: a volume keeps its class" $.part $.persistence.storageClass ($had.storageClassName | default "")) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
A CronJob that writes a backup of the service's store to a volume, and a suspended one that is the form of a restore:
  kubectl create job --from=cronjob/<name>-backup backup-now
  kubectl create job --from=cronjob/<name>-restore restore-now       (the newest backup)
dict "ctx" . "uid" 999 "image" "x:1" "pullPolicy" "IfNotPresent" "env" "<yaml>" "backup" (list of words) "restore" (list of words) "mounts" "<yaml>" "volumes" "<yaml>"
*/}}
{{- define "common.backup" -}}
{{- $a := . -}}
{{- $b := .ctx.Values.backup -}}
{{- $name := include "common.fullname" .ctx -}}
{{- $claim := $b.existingClaim | default (printf "%s-backup" $name) -}}
{{- if not $b.existingClaim }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  {{- include "common.metadata" (dict "ctx" .ctx "name" $claim "component" "backup" "annotations" (dict "helm.sh/resource-policy" "keep")) | nindent 2 }}
spec:
  accessModes: [ReadWriteOnce]
  {{- with $b.storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ $b.size }}
---
# Takes the claim at once: where volumes are made for their first pod, `helm --wait` would wait for a claim that nobody uses before the first night.
# It stays when it is done, because a tool that compares what is there with what was rendered would miss it.
apiVersion: batch/v1
kind: Job
{{- $pod := include "common.volumePod" (merge (dict "claim" $claim) .) }}
metadata:
  # A Job's pod cannot be changed: what changes it changes the name.
  {{- include "common.metadata" (dict "ctx" .ctx "name" (include "common.bounded" (dict "name" (printf "%s-volume-%s" $claim ($pod | sha256sum | trunc 8)) "max" 63)) "component" "volume") | nindent 2 }}
spec:
  backoffLimit: 2
  template:
    {{- $pod | nindent 4 }}
{{- end }}
{{- range $verb := list "backup" "restore" }}
---
apiVersion: batch/v1
kind: CronJob
metadata:
  {{- include "common.metadata" (dict "ctx" $a.ctx "name" (include "common.bounded" (dict "name" (printf "%s-%s" $name $verb) "max" 52)) "component" $verb) | nindent 2 }}
spec:
  schedule: {{ $b.schedule | quote }}
  # The receipts of erasures say by when a backup is deleted: see packages/service/src/backups.ts.
  timeZone: Etc/UTC
  {{- if eq $verb "restore" }}
  # Never by the clock: it is what `kubectl create job --from` copies.
  suspend: true
  {{- end }}
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 3600
  successfulJobsHistoryLimit: 1
  failedJobsHistoryLimit: 3
  jobTemplate:
    spec:
      backoffLimit: {{ ternary 2 0 (eq $verb "backup") }}
      activeDeadlineSeconds: 21600
      template:
        metadata:
          {{- $labels := printf "%s\nquartet/owner: %s" (include "common.labels" (dict "ctx" $a.ctx "component" $verb)) $a.ctx.Chart.Name }}
          {{- include "common.podMetadata" (dict "ctx" $a.ctx "labels" $labels) | nindent 10 }}
        spec:
          restartPolicy: Never
          serviceAccountName: {{ include "common.accountName" $a.ctx }}
          automountServiceAccountToken: false
          enableServiceLinks: false
          securityContext:
            {{- include "common.podSecurity" (dict "uid" $a.uid) | nindent 12 }}
          containers:
            - name: {{ $verb }}
              image: {{ $a.image }}
              imagePullPolicy: {{ $a.pullPolicy }}
              command: {{ include "common.withAuthorities" (dict "ctx" $a.ctx "command" (get $a $verb)) }}
              env:
                - { name: KEEP, value: {{ $b.keep | quote }} }
                {{- with include "common.caFile" $a.ctx }}
                - { name: NODE_EXTRA_CA_CERTS, value: {{ . }} }
                - { name: PGSSLROOTCERT, value: {{ . }} }
                {{- end }}
                {{- $a.env | nindent 16 }}
              resources:
                {{- include "common.resources" (dict "resources" $b.resources "scratch" "1Gi") | nindent 16 }}
              securityContext:
                {{- include "common.containerSecurity" $a.ctx | nindent 16 }}
              volumeMounts:
                - { name: backup, mountPath: /backup }
                - { name: tmp, mountPath: /tmp }
                {{- with include "common.caMount" $a.ctx }}
                {{- . | nindent 16 }}
                {{- end }}
                {{- with $a.mounts }}
                {{- . | nindent 16 }}
                {{- end }}
          volumes:
            - { name: backup, persistentVolumeClaim: { claimName: {{ $claim }} } }
            - { name: tmp, emptyDir: { sizeLimit: 64Mi } }
            {{- with include "common.caVolume" $a.ctx }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with $a.volumes }}
            {{- . | nindent 12 }}
            {{- end }}
          {{- include "common.affinity" (dict "ctx" $a.ctx "component" $verb) | nindent 10 }}
          {{- include "common.placement" $a.ctx | nindent 10 }}
{{- end }}
{{- end -}}


{{/* What a service and its backup job know of the backups. */}}
{{- define "common.backupEnv" -}}
{{- if .Values.backup.enabled -}}
- { name: BACKUP_SCHEDULE, value: {{ .Values.backup.schedule | quote }} }
- { name: BACKUP_RETENTION_DAYS, value: {{ .Values.backup.retentionDays | quote }} }
{{- end -}}
{{- end -}}

{{/* The arguments of common.backup, and "claim". */}}
{{- define "common.volumePod" -}}
metadata:
  {{- $labels := printf "%s\nquartet/owner: %s" (include "common.selector" (dict "ctx" .ctx "component" "volume")) .ctx.Chart.Name }}
  {{- include "common.podMetadata" (dict "ctx" .ctx "labels" $labels) | nindent 2 }}
spec:
  restartPolicy: Never
  serviceAccountName: {{ include "common.accountName" .ctx }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext:
    {{- include "common.podSecurity" (dict "uid" .uid) | nindent 4 }}
  containers:
    - name: volume
      image: {{ .image }}
      imagePullPolicy: {{ .pullPolicy }}
      command: [sh, -c, "touch /backup/.writable && ls -l /backup"]
      resources:
        {{- include "common.resources" (dict "resources" .ctx.Values.backup.resources "scratch" "1Gi") | nindent 8 }}
      securityContext:
        {{- include "common.containerSecurity" .ctx | nindent 8 }}
      volumeMounts:
        - { name: backup, mountPath: /backup }
  volumes:
    - { name: backup, persistentVolumeClaim: { claimName: {{ .claim }} } }
  {{- include "common.affinity" (dict "ctx" .ctx "component" "volume") | nindent 2 }}
  {{- include "common.placement" .ctx | nindent 2 }}
{{- end -}}
