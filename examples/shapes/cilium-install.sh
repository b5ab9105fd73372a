cilium install --version 1.18.3 --config enable-vtep=true,vtep-endpoint=10.169.72.34,vtep-cidr=10.1.6.0/24,vtep-mask=255.255.255.0,vtep-mac=00:00:00:00:00:00,enable-policy=never,ipam=kubernetes
