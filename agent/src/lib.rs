//! The agent: one event loop that owns all state, and around it the sources, the kernel, the log and the people who ask.

pub mod agent;
pub mod api;
pub mod app;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod collector;
pub mod command;
pub mod config;
pub mod deciding;
pub mod drain;
pub mod enforce;
pub mod exported;
pub mod human;
pub mod learn;
pub mod lock;
pub mod logging;
pub mod model;
pub mod offline;
pub mod pipeline;
pub mod proto;
pub mod render;
pub mod scoring;
pub mod sink;
pub mod store;
pub mod surroundings;
