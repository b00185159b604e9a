{{- define "llm-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "llm-gateway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "llm-gateway.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "llm-gateway.selector" -}}
app.kubernetes.io/name: {{ include "llm-gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "llm-gateway.labels" -}}
{{ include "llm-gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "llm-gateway.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "llm-gateway.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "llm-gateway.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{- define "llm-gateway.keySecret" -}}
{{- default (printf "%s-keys" (include "llm-gateway.fullname" .)) .Values.keys.existingSecret -}}
{{- end -}}

{{- /* The most pods that there will be at once, updates aside. */ -}}
{{- define "llm-gateway.most" -}}
{{- if .Values.autoscaling.enabled -}}{{- int .Values.autoscaling.maxReplicas -}}{{- else -}}{{- int .Values.replicas -}}{{- end -}}
{{- end -}}

{{- /* The claims of this release that only the pods of one node can mount, one to a line. */ -}}
{{- define "llm-gateway.narrow" -}}
{{- range $name := list "cache" "data" -}}
{{- $volume := index $.Values (printf "%sVolume" $name) -}}
{{- if and (or $volume.persistent $volume.existingClaim) (not (has "ReadWriteMany" $volume.accessModes)) -}}
{{- printf "%sVolume\n" $name -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* `preStop`, `notice_seconds` and `drain_seconds` come one after the other; the gateway needs up to 10 s to end. */ -}}
{{- define "llm-gateway.grace" -}}
{{- $server := .Values.config.server | default dict -}}
{{- $drain := ternary 30 $server.drain_seconds (kindIs "invalid" $server.drain_seconds) -}}
{{- $notice := ternary 0 $server.notice_seconds (kindIs "invalid" $server.notice_seconds) -}}
{{- addf .Values.preStopSeconds $notice $drain 10 | ceil | int64 -}}
{{- end -}}

{{- /* The supervisor replaces a worker that stands still: a probe that fails earlier would lose the loaded models with it. */ -}}
{{- define "llm-gateway.livenessFailures" -}}
{{- $server := .Values.config.server | default dict -}}
{{- divf (addf ($server.hang_seconds | default 30) 30) 10 | ceil | int64 -}}
{{- end -}}

{{- /* How the port speaks: the kubelet takes any certificate for its probes. */ -}}
{{- define "llm-gateway.scheme" -}}
{{- ternary "HTTPS" "HTTP" (not (empty (.Values.config.server | default dict).tls_certificate)) -}}
{{- end -}}

{{- define "llm-gateway.volume" -}}
{{- $volume := index .root.Values (printf "%sVolume" .name) -}}
- name: {{ .name }}
{{- if or $volume.persistent $volume.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ $volume.existingClaim | default (printf "%s-%s" (include "llm-gateway.fullname" .root) .name) }}
{{- else }}
  emptyDir:
    sizeLimit: {{ $volume.size }}
{{- end }}
{{- end -}}
