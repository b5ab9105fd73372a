{{/* The names are constants: one agent runs on a node, so a second release in the cluster is a mistake that Helm then refuses. */}}
{{- define "vtep-agent.name" -}}vtep-agent{{- end }}

{{- define "vtep-agent.selector" -}}
app.kubernetes.io/name: {{ include "vtep-agent.name" . }}
{{- end }}

{{- define "vtep-agent.labels" -}}
{{ include "vtep-agent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "vtep-agent.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Whether the agent is a client of the API server. */}}
{{- define "vtep-agent.isClient" -}}
{{ if eq .Values.config.source "kube" }}true{{ end }}
{{- end }}

{{/* auto, on or off; YAML reads the latter two as booleans where they stand without quotes. */}}
{{- define "vtep-agent.switch" -}}
{{ if kindIs "bool" . }}{{ ternary "on" "off" . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* What a schema cannot say: values that do not go together. */}}
{{- define "vtep-agent.check" -}}
{{- if and .Values.monitor.enabled (ne .Values.listen.scope "node") }}
{{- fail "monitor.enabled needs listen.scope: node, since Prometheus cannot reach the node's loopback" }}
{{- end }}
{{- if and .Values.nodeCondition.enabled (not (include "vtep-agent.isClient" .)) }}
{{- fail "nodeCondition.enabled needs config.source: kube, since it is written at the API server" }}
{{- end }}
{{- if and (not (include "vtep-agent.isClient" .)) (ne .Values.cilium.namespace .Release.Namespace) }}
{{- fail "config.source: dir mounts the ConfigMap, which works only in its own namespace: install the release in cilium.namespace" }}
{{- end }}
{{- end }}

{{/* Settings go by the environment and never by flags, so that `kubectl exec … vtep-agent plan` has the same ones. */}}
{{- define "vtep-agent.env" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- if eq .Values.listen.scope "node" }}
- name: NODE_IP
  valueFrom:
    fieldRef:
      fieldPath: status.hostIP
{{- end }}
- name: VTEP_AGENT_LISTEN
  value: {{ ternary "$(NODE_IP)" "127.0.0.1" (eq .Values.listen.scope "node") }}:{{ .Values.listen.port }}
- name: VTEP_AGENT_URL
  value: http://$(VTEP_AGENT_LISTEN)
- name: VTEP_AGENT_MODE
  value: {{ ternary "observe" .Values.mode .Values.cleanup }}
- name: VTEP_AGENT_HOST_ROUTES
  value: {{ include "vtep-agent.switch" .Values.hostRoutes | quote }}
{{- if ne (int .Values.routeTable) 2021 }}
- name: VTEP_AGENT_ROUTE_TABLE
  value: {{ int .Values.routeTable | quote }}
{{- end }}
{{- with .Values.allowOverlap }}
- name: VTEP_AGENT_ALLOW_OVERLAP
  value: {{ join "," . | quote }}
{{- end }}
- name: VTEP_AGENT_IPCACHE
  value: {{ include "vtep-agent.switch" .Values.ipcache | quote }}
{{- if include "vtep-agent.isClient" . }}
- name: VTEP_AGENT_CONFIG_SOURCE
  value: kube
- name: VTEP_AGENT_NAMESPACE
  value: {{ .Values.cilium.namespace }}
- name: VTEP_AGENT_CONFIGMAP
  value: {{ .Values.cilium.configMap }}
{{- else }}
- name: VTEP_AGENT_CONFIG_SOURCE
  value: dir
- name: VTEP_AGENT_CONFIG_DIR
  value: /etc/cilium-config
{{- end }}
- name: VTEP_AGENT_PROBE_INTERVAL
  value: {{ .Values.probe.interval }}
{{- with .Values.probe.targets }}
- name: VTEP_AGENT_PROBE_TARGET
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.podCIDRs }}
- name: VTEP_AGENT_POD_CIDR
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.serviceCIDRs }}
- name: VTEP_AGENT_SERVICE_CIDR
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.cilium.version }}
- name: VTEP_AGENT_CILIUM_VERSION
  value: {{ . | quote }}
{{- end }}
- name: VTEP_AGENT_EVENTS
  value: {{ ternary "on" "off" (and .Values.events.enabled (not (empty (include "vtep-agent.isClient" .)))) | quote }}
{{- if .Values.nodeCondition.enabled }}
- name: VTEP_AGENT_NODE_CONDITION
  value: "true"
{{- end }}
- name: VTEP_AGENT_RUNBOOK_URL
  value: {{ .Values.runbookUrl | quote }}
- name: VTEP_AGENT_LOG_FORMAT
  value: {{ .Values.log.format }}
- name: VTEP_AGENT_LOG_LEVEL
  value: {{ .Values.log.level | quote }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "vtep-agent.securityContext" -}}
# Root, but without root's capabilities: Kubernetes gives a user that is not root no capability at run time, and bpffs and
# Cilium's socket belong to root.
runAsUser: 0
runAsGroup: 0
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
privileged: false
capabilities:
  drop: [ALL]
  add:
    {{- if .Values.legacyKernel }}
    - SYS_ADMIN # includes BPF, which Linux before 5.8 does not know
    {{- else }}
    - BPF # reads and writes Cilium's BPF maps, loads the tap
    {{- end }}
    - NET_ADMIN # host routes and rules, the tap on the underlay
    - NET_RAW # probes
# It gives bpf(2) to CAP_BPF since containerd 1.6.9 and Docker 23. Older ones, and CRI-O's own profile in some releases, ask for
# SYS_ADMIN: set legacyKernel, or a seccompProfile that allows bpf(2). The default AppArmor profile needs no exception: below
# /sys/fs it denies to make, change or remove files, which the agent never does; to open a pin by bpf(2) is none of these.
seccompProfile:
  {{- toYaml .Values.seccompProfile | nindent 2 }}
{{- with .Values.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "vtep-agent.volumeMounts" -}}
# Read-only: nothing can be pinned or removed there; that the maps behind the pins can be written is a matter of the map alone.
# All of bpffs, since tc/globals, which has all of Cilium's maps, is there only after Cilium's first start; propagated, since
# bpffs may be mounted after this pod began.
- name: bpffs
  mountPath: /sys/fs/bpf
  readOnly: true
  mountPropagation: HostToContainer
{{- if .Values.cilium.version }}
# What Cilium was started with.
- name: cilium-run
  mountPath: /var/run/cilium/state
  readOnly: true
{{- else }}
# What Cilium was started with, in state/, and its socket, which tells its version. The directory, because Cilium makes the
# socket anew at each start.
- name: cilium-run
  mountPath: /var/run/cilium
  readOnly: true
{{- end }}
# The last good configuration, and what the agent put into the ipcache: a few kilobytes, and all that it can write.
- name: state
  mountPath: /var/lib/vtep-agent
{{- if not (include "vtep-agent.isClient" .) }}
- name: config
  mountPath: /etc/cilium-config
  readOnly: true
{{- end }}
{{- end }}

{{- define "vtep-agent.httpGet" -}}
path: {{ .path }}
port: http
{{- if eq .root.Values.listen.scope "loopback" }}
host: 127.0.0.1
{{- end }}
{{- end }}
