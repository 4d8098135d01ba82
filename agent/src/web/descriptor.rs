//! The interface as it describes itself: messages by their names, with the comments of `weir.proto`.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};

use crate::api::rights::SERVICE;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/weir.binpb")).as_slice();
    DescriptorPool::decode(bytes).unwrap_or_default()
});

static COMMENTS: LazyLock<HashMap<Vec<i32>, String>> = LazyLock::new(|| {
    let Some(service) = service() else { return HashMap::new() };
    let file = service.parent_file();
    let located = file.file_descriptor_proto().source_code_info.iter().flat_map(|i| &i.location);
    let said = located.filter_map(|l| {
        let lines = l.leading_comments.as_deref()?.trim().lines();
        Some((l.path.clone(), lines.map(str::trim).collect::<Vec<_>>().join(" ")))
    });
    said.collect()
});

pub fn service() -> Option<ServiceDescriptor> {
    POOL.get_service_by_name(SERVICE)
}

pub fn pool() -> &'static DescriptorPool {
    &POOL
}

pub fn method(rpc: &str) -> Option<MethodDescriptor> {
    service()?.methods().find(|m| m.name() == rpc)
}

/// What `weir.proto` says of the item at this path of its source information.
pub fn comment(path: &[i32]) -> &'static str {
    COMMENTS.get(path).map_or("", String::as_str)
}
