//! Wrappers of the tap's records for the map API. They are necessary because both the trait and the records belong to other crates.

#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct FlowKey(pub(super) vtep_agent_ebpf::FlowKey);
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct FlowStats(pub(super) vtep_agent_ebpf::FlowStats);
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct EndpointStats(pub(super) vtep_agent_ebpf::EndpointStats);
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Neighbour(pub(super) vtep_agent_ebpf::Neighbour);
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct UnexpectedSource(pub(super) vtep_agent_ebpf::UnexpectedSource);
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Targets(pub(super) vtep_agent_ebpf::Targets);

#[expect(unsafe_code, reason = "integers and byte arrays without padding, as the record's crate asserts by its size")]
// SAFETY: as the reason says.
unsafe impl aya::Pod for FlowKey {}
#[expect(unsafe_code, reason = "integers and byte arrays without padding, as the record's crate asserts by its size")]
// SAFETY: as the reason says.
unsafe impl aya::Pod for FlowStats {}
#[expect(unsafe_code, reason = "integers and byte arrays without padding, as the record's crate asserts by its size")]
// SAFETY: as the reason says.
unsafe impl aya::Pod for EndpointStats {}
#[expect(unsafe_code, reason = "integers and byte arrays without padding, as the record's crate asserts by its size")]
// SAFETY: as the reason says.
unsafe impl aya::Pod for Neighbour {}
#[expect(unsafe_code, reason = "integers and byte arrays without padding, as the record's crate asserts by its size")]
// SAFETY: as the reason says.
unsafe impl aya::Pod for UnexpectedSource {}
#[expect(unsafe_code, reason = "integers and byte arrays without padding, as the record's crate asserts by its size")]
// SAFETY: as the reason says.
unsafe impl aya::Pod for Targets {}
