//! What is going on: rates, scores, sources, recorded flows; and the context that the alert page needs.

use tonic::{Request, Response, Status};

use super::service::Service;
use crate::proto as pb;

fn later<T>(name: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!("this agent does not answer {name} yet")))
}

pub(super) async fn traffic(
    _: &Service,
    _: Request<pb::TrafficRequest>,
) -> Result<Response<pb::TrafficResponse>, Status> {
    later("Traffic")
}

pub(super) async fn top_sources(
    _: &Service,
    _: Request<pb::TopSourcesRequest>,
) -> Result<Response<pb::TopSourcesResponse>, Status> {
    later("TopSources")
}

pub(super) async fn scores(_: &Service, _: Request<pb::ScoresRequest>) -> Result<Response<pb::ScoresResponse>, Status> {
    later("Scores")
}

pub(super) async fn search_flows(
    _: &Service,
    _: Request<pb::SearchFlowsRequest>,
) -> Result<Response<pb::SearchFlowsResponse>, Status> {
    later("SearchFlows")
}

pub(super) async fn alert_context(
    _: &Service,
    _: Request<pb::AlertContextRequest>,
) -> Result<Response<pb::AlertContextResponse>, Status> {
    later("AlertContext")
}

pub(super) async fn show_config(
    _: &Service,
    _: Request<pb::ShowConfigRequest>,
) -> Result<Response<pb::ShowConfigResponse>, Status> {
    later("ShowConfig")
}

pub(super) async fn model_calibration(
    _: &Service,
    _: Request<pb::ModelCalibrationRequest>,
) -> Result<Response<pb::ModelCalibrationResponse>, Status> {
    later("ModelCalibration")
}

pub(super) async fn create_web_login(
    _: &Service,
    _: Request<pb::CreateWebLoginRequest>,
) -> Result<Response<pb::CreateWebLoginResponse>, Status> {
    later("CreateWebLogin")
}
