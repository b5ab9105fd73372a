{{/* The names are constants: only one agent may run on a node, so that Helm refuses a second release in the cluster. */}}
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

{{/* auto, on or off. YAML reads on and off without quotes as booleans. */}}
{{- define "vtep-agent.switch" -}}
{{ if kindIs "bool" . }}{{ ternary "on" "off" . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* Checks that a schema cannot express: combinations of values. */}}
{{- define "vtep-agent.check" -}}
{{- if and .Values.monitor.enabled (ne .Values.listen.scope "node") }}
{{- fail "monitor.enabled needs listen.scope: node, because Prometheus cannot reach the node's loopback address" }}
{{- end }}
{{- if and .Values.nodeCondition.enabled (not (include "vtep-agent.isClient" .)) }}
{{- fail "nodeCondition.enabled needs config.source: kube, because the agent writes the condition at the API server" }}
{{- end }}
{{- if and (not (include "vtep-agent.isClient" .)) (ne .Values.cilium.namespace .Release.Namespace) }}
{{- fail "config.source: dir mounts the ConfigMap, and a pod can mount only a ConfigMap of its own namespace: install the release in cilium.namespace" }}
{{- end }}
{{- end }}

{{/* All settings are environment variables and not flags, so that `kubectl exec … vtep-agent plan` uses the same settings. */}}
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
- name: VTEP_AGENT_VTEP_SOURCE
  value: {{ .Values.vtepSource }}
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
# Root, but with only three capabilities. Kubernetes gives no capability to another user at run time, and bpffs and Cilium's
# socket belong to root.
runAsUser: 0
runAsGroup: 0
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
privileged: false
capabilities:
  drop: [ALL]
  add:
    {{- if .Values.legacyKernel }}
    - SYS_ADMIN # includes BPF, which Linux before 5.8 does not have
    {{- else }}
    - BPF # reads and writes Cilium's BPF maps, loads the tap
    {{- end }}
    - NET_ADMIN # host routes and rules, the tap on the underlay
    - NET_RAW # probes
# The default profile permits bpf(2) with CAP_BPF since containerd 1.6.9 and Docker 23. Older ones, and CRI-O's own profile in some
# releases, require SYS_ADMIN: set legacyKernel, or a seccompProfile that allows bpf(2). The default AppArmor profile needs no
# exception: below /sys/fs it only denies creating, changing and removing files. The agent does none of these, because bpf(2) opens
# a pin in another way.
seccompProfile:
  {{- toYaml .Values.seccompProfile | nindent 2 }}
{{- with .Values.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "vtep-agent.volumeMounts" -}}
# Read-only, so that nothing can be pinned or removed there. It does not prevent writes to the maps behind the pins. The pod mounts
# all of bpffs, because the directory tc/globals with Cilium's maps exists only after Cilium's first start. The mount is propagated,
# because the node may mount bpffs after this pod has started.
- name: bpffs
  mountPath: /sys/fs/bpf
  readOnly: true
  mountPropagation: HostToContainer
{{- if .Values.cilium.version }}
# The configuration that Cilium was started with.
- name: cilium-run
  mountPath: /var/run/cilium/state
  readOnly: true
{{- else }}
# The configuration that Cilium was started with, in state/, and Cilium's socket, which the agent asks for the version. The pod mounts
# the directory, because Cilium creates a new socket at each start.
- name: cilium-run
  mountPath: /var/run/cilium
  readOnly: true
{{- end }}
# The agent's state files, a few kilobytes. Nothing else is writable.
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
