{{- define "vtep-agent.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of every object. With the longest suffix, it is still a label value. */}}
{{- define "vtep-agent.fullname" -}}
{{- $name := include "vtep-agent.name" . }}
{{- $fullname := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- .Values.fullnameOverride | default $fullname | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* The labels by which Services and monitors find the pods. */}}
{{- define "vtep-agent.selectorLabels" -}}
app.kubernetes.io/name: {{ include "vtep-agent.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/*
The labels by which the DaemonSet finds its pods. Kubernetes never lets them change. Before 0.2 every DaemonSet was called vtep-agent, and its
selector had no instance, so that a DaemonSet of that name keeps such a selector. It still owns only pods that it has made itself.
*/}}
{{- define "vtep-agent.daemonSetSelector" -}}
{{- if eq (include "vtep-agent.fullname" .) "vtep-agent" -}}
app.kubernetes.io/name: {{ include "vtep-agent.name" . }}
{{- else -}}
{{ include "vtep-agent.selectorLabels" . }}
{{- end }}
{{- end }}

{{- define "vtep-agent.labels" -}}
{{- $own := include "vtep-agent.selectorLabels" . | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- toYaml (merge $own .Values.commonLabels) }}
{{- end }}

{{/* The labels of an object that others select by labels: the root, and those labels. */}}
{{- define "vtep-agent.labelsWith" -}}
{{- toYaml (merge (include "vtep-agent.labels" (first .) | fromYaml) (last .)) }}
{{- end }}

{{/*
A pod has no label that changes with the chart alone: otherwise a new chart would replace every pod. The component is constant, so that
`vtep-agent fleet` finds the pods of every release, whatever its nameOverride is.
*/}}
{{- define "vtep-agent.podLabels" -}}
{{- $own := include "vtep-agent.selectorLabels" . | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/component" "vtep-agent" }}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion }}
{{- toYaml (merge $own .Values.podLabels .Values.commonLabels) }}
{{- end }}

{{- define "vtep-agent.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (include "vtep-agent.fullname" .) }}
{{- end }}

{{- define "vtep-agent.image" -}}
{{- .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "vtep-agent.imagePullSecrets" -}}
{{- $secrets := list }}
{{- range .Values.image.pullSecrets }}
{{- $secrets = append $secrets (dict "name" .) }}
{{- end }}
{{- with concat $secrets .Values.imagePullSecrets (dig "imagePullSecrets" list (.Values.global | default dict)) | uniq }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* OpenShift's SecurityContextConstraints and the container must have the same options. */}}
{{- define "vtep-agent.seLinuxOptions" -}}
{{- $openshift := ternary (dict "type" "spc_t" "level" "s0") (dict) .Values.openshift.enabled }}
{{- with .Values.seLinuxOptions | default $openshift }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* The capabilities, each with its purpose as a comment. */}}
{{- define "vtep-agent.capabilities" -}}
{{- if .Values.legacyKernel -}}
- SYS_ADMIN # includes BPF, which Linux before 5.8 does not have
- SYS_RESOURCE # raises RLIMIT_MEMLOCK, against which Linux before 5.11 counts the tap's maps
{{- else -}}
- BPF # reads and writes Cilium's BPF maps, loads the tap
{{- end }}
- NET_ADMIN # host routes and rules, the tap on the underlay
- NET_RAW # probes
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
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) }}
{{- fail "serviceAccount.create: false needs serviceAccount.name, because the roles must not go to the ServiceAccount of all other pods" }}
{{- end }}
{{- if and .Values.image.digest (contains "@" .Values.image.tag) }}
{{- fail "image.tag already has a digest: set only one of image.tag and image.digest" }}
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
{{- if ne .Values.mac "configured" }}
- name: VTEP_AGENT_MAC
  value: {{ .Values.mac }}
{{- end }}
{{- with .Values.learnMac }}
- name: VTEP_AGENT_LEARN_MAC
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.probe.tcp }}
- name: VTEP_AGENT_PROBE_TCP
  value: {{ join "," . | quote }}
{{- end }}
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
    {{- include "vtep-agent.capabilities" . | nindent 4 }}
# The default profile permits bpf(2) with CAP_BPF since containerd 1.6.9 and Docker 23. Older ones, and CRI-O's own profile in some
# releases, require SYS_ADMIN: set legacyKernel, or a seccompProfile that allows bpf(2). The default AppArmor profile needs no
# exception: below /sys/fs it only denies creating, changing and removing files. The agent does none of these, because bpf(2) opens
# a pin in another way.
seccompProfile:
  {{- toYaml .Values.seccompProfile | nindent 2 }}
{{- with include "vtep-agent.seLinuxOptions" . }}
seLinuxOptions:
  {{- . | nindent 2 }}
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
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "vtep-agent.volumes" -}}
- name: bpffs
  hostPath:
    path: /sys/fs/bpf
    type: Directory
- name: cilium-run
  hostPath:
    path: {{ .Values.cilium.runPath }}{{ if .Values.cilium.version }}/state{{ end }}
    # The directory is gone after a reboot. Cilium or the agent creates it, whichever starts first, as in Cilium's own DaemonSet.
    type: DirectoryOrCreate
- name: state
  hostPath:
    path: /var/lib/vtep-agent
    type: DirectoryOrCreate
{{- if not (include "vtep-agent.isClient" .) }}
- name: config
  configMap:
    name: {{ .Values.cilium.configMap }}
    # If the ConfigMap is missing, the agent still starts, and reports that.
    optional: true
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Fields that the DaemonSet's pod and the pod of `helm test` share. */}}
{{- define "vtep-agent.podSpec" -}}
serviceAccountName: {{ include "vtep-agent.serviceAccountName" . }}
# The agent works on the devices, routes and tunnels of the node.
hostNetwork: true
# The agent resolves no names. The node's resolver at least does not depend on the network that the agent watches.
dnsPolicy: {{ .Values.dnsPolicy }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
enableServiceLinks: false
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "vtep-agent.imagePullSecrets" . }}
imagePullSecrets:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  {{- include "vtep-agent.volumes" . | nindent 2 }}
{{- end }}

{{- define "vtep-agent.httpGet" -}}
path: {{ .path }}
port: http
{{- if eq .root.Values.listen.scope "loopback" }}
host: 127.0.0.1
{{- end }}
{{- end }}
