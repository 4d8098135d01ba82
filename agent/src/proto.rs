//! Code generated from `proto/weir/v1/weir.proto`.
#![allow(clippy::all, clippy::allow_attributes_without_reason, reason = "generated code")]

tonic::include_proto!("weir.v1");
