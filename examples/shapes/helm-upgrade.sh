# The command of F5's document. Its first MAC is a group address, and without a mask the Cilium agent does not start.
helm upgrade cilium cilium/cilium \
  --namespace kube-system \
  --reuse-values \
  --set vtep.enabled="true" \
  --set vtep.endpoint="10.169.72.34    10.169.72.36" \
  --set vtep.cidr="10.1.6.0/24         10.1.5.0/24" \
  --set vtep.mac="01:50:56:A0:7D:D8    00:50:56:86:6b:28" \
  --set policyEnforcementMode="never"
