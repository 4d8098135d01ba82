//! What goes on, as the terminal view asks for it.

use super::{Client, Result};
use crate::proto as pb;

impl Client {
    /// Points after this time, the oldest first; 0: all that are kept.
    pub async fn traffic(&mut self, since_us: u64) -> Result<Vec<pb::TrafficPoint>> {
        Ok(self.0.traffic(pb::TrafficRequest { since_us }).await?.into_inner().points)
    }

    /// Those with the most evidence.
    pub async fn top_sources(&mut self, limit: u32) -> Result<pb::TopSourcesResponse> {
        Ok(self.0.top_sources(pb::TopSourcesRequest { limit }).await?.into_inner())
    }

    /// The configuration in force, without secrets.
    pub async fn show_config(&mut self) -> Result<pb::ShowConfigResponse> {
        Ok(self.0.show_config(pb::ShowConfigRequest {}).await?.into_inner())
    }
}
