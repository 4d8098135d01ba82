//! Questions, labels and suppressions over gRPC: messages from what the core keeps, and the calls.

use std::time::Duration;

use tonic::{Request, Response, Status};
use weir_core::label::{Label, Truth};
use weir_core::question::{Choice, Question, State, Unanswered, Width};
use weir_core::suppression::Suppression;

use super::convert::{Malformed, text};
use super::service::{Service, caller, short};
use crate::command::{Command, FeedbackCommand, LabelScope, NewAnswer, ReviewCommand};
use crate::proto as pb;

pub fn question(q: &Question) -> pb::Question {
    let (answered_us, decision_id, suppression_id) = match &q.state {
        State::Open => (0, None, None),
        State::Answered(g) => (g.at_us, g.decision_id, g.suppression_id),
        State::Unanswered { at_us, decision_id, .. } => (*at_us, *decision_id, None),
        State::Undone { at_us, .. } => (*at_us, None, None),
    };
    pb::Question {
        id: q.id,
        source: q.source.to_string(),
        why: q.why.clone(),
        target: q.proposed.target.to_string(),
        action: match q.proposed.action {
            weir_core::decision::Action::Drop => "drop",
            weir_core::decision::Action::Limit => "limit",
            weir_core::decision::Action::Shadow => "watch",
        }
        .to_owned(),
        ttl_us: q.proposed.ttl_us.unwrap_or(0),
        evidence: q.proposed.reason.clone(),
        alert_id: q.proposed.alert_id.unwrap_or(0),
        asked_us: q.asked_us,
        last_us: q.last_us,
        count: q.count,
        expires_us: q.expires_us,
        unanswered: match q.unanswered {
            Unanswered::Nothing => "nothing",
            Unanswered::Act => "act",
        }
        .to_owned(),
        state: q.state_name().to_owned(),
        came_to: q.came_to(),
        answered_us,
        decision_id: decision_id.unwrap_or(0),
        suppression_id: suppression_id.unwrap_or(0),
    }
}

pub fn label(l: &Label) -> pb::Label {
    pb::Label {
        id: l.id,
        alert_id: l.alert_id,
        source: l.source.to_string(),
        from_us: l.from_us,
        to_us: l.to_us,
        truth: l.truth.name().to_owned(),
        comment: l.comment.clone(),
        by: l.by.clone(),
        at_us: l.at_us,
        suppression_id: l.suppression_id.unwrap_or(0),
        undone_by: l.undone.as_ref().map(|u| u.by.clone()).unwrap_or_default(),
        undone_us: l.undone.as_ref().map_or(0, |u| u.at_us),
        ports: l.ports.iter().map(|p| u32::from(*p)).collect(),
    }
}

pub fn suppression(s: &Suppression) -> pb::Suppression {
    pb::Suppression {
        id: s.id,
        prefix: s.scope.prefix.to_string(),
        ports: s.scope.ports.iter().map(|p| u32::from(*p)).collect(),
        role: s.scope.role.map(|r| r.to_string()).unwrap_or_default(),
        features: s.scope.features.clone(),
        created_us: s.created_us,
        expires_us: s.expires_us,
        comment: s.comment.clone(),
        by: s.by.clone(),
        came_of: s.came_of.clone(),
        observations: s.observations,
        alerts: s.alerts,
        last_us: s.last_us.unwrap_or(0),
    }
}

fn choice(v: i32) -> Result<Choice, Malformed> {
    Ok(match pb::AnswerChoice::try_from(v) {
        Ok(pb::AnswerChoice::Ignore) => Choice::Ignore,
        Ok(pb::AnswerChoice::Suppress) => Choice::Suppress,
        Ok(pb::AnswerChoice::Watch) => Choice::Watch,
        Ok(pb::AnswerChoice::Limit) => Choice::Limit,
        Ok(pb::AnswerChoice::Drop) => Choice::Block,
        Ok(pb::AnswerChoice::Unspecified) => return Err(Malformed::Missing { field: "choice" }),
        Err(_) => return Err(Malformed::Unknown { field: "choice", value: v }),
    })
}

pub fn choice_out(c: Choice) -> pb::AnswerChoice {
    match c {
        Choice::Ignore => pb::AnswerChoice::Ignore,
        Choice::Suppress => pb::AnswerChoice::Suppress,
        Choice::Watch => pb::AnswerChoice::Watch,
        Choice::Limit => pb::AnswerChoice::Limit,
        Choice::Block => pb::AnswerChoice::Drop,
    }
}

fn width(v: i32) -> Result<Option<Width>, Malformed> {
    Ok(match pb::AnswerWidth::try_from(v) {
        Ok(pb::AnswerWidth::Unspecified) => None,
        Ok(pb::AnswerWidth::Flow) => Some(Width::Flow),
        Ok(pb::AnswerWidth::Port) => Some(Width::Port),
        Ok(pb::AnswerWidth::Host) => Some(Width::Host),
        Ok(pb::AnswerWidth::Prefix) => Some(Width::Prefix),
        Err(_) => return Err(Malformed::Unknown { field: "width", value: v }),
    })
}

pub fn width_out(w: Option<Width>) -> pb::AnswerWidth {
    match w {
        None => pb::AnswerWidth::Unspecified,
        Some(Width::Flow) => pb::AnswerWidth::Flow,
        Some(Width::Port) => pb::AnswerWidth::Port,
        Some(Width::Host) => pb::AnswerWidth::Host,
        Some(Width::Prefix) => pb::AnswerWidth::Prefix,
    }
}

fn truth(v: i32) -> Result<Truth, Malformed> {
    Ok(match pb::AlertTruth::try_from(v) {
        Ok(pb::AlertTruth::True) => Truth::Attack,
        Ok(pb::AlertTruth::False) => Truth::FalseAlarm,
        Ok(pb::AlertTruth::Unsure) => Truth::Unsure,
        Ok(pb::AlertTruth::Unspecified) => return Err(Malformed::Missing { field: "truth" }),
        Err(_) => return Err(Malformed::Unknown { field: "truth", value: v }),
    })
}

pub fn truth_out(t: Truth) -> pb::AlertTruth {
    match t {
        Truth::Attack => pb::AlertTruth::True,
        Truth::FalseAlarm => pb::AlertTruth::False,
        Truth::Unsure => pb::AlertTruth::Unsure,
    }
}

fn scope(s: Option<pb::SuppressionScope>) -> Result<LabelScope, Status> {
    let Some(s) = s else { return Ok(LabelScope::default()) };
    let port = |p: u32| match u16::try_from(p) {
        Ok(p) => Ok(p),
        Err(_) => Err(Status::invalid_argument(format!("{p} is no port; expected 0 to 65535"))),
    };
    let features = s.features.into_iter().take(64).map(|f| short("features", f));
    Ok(LabelScope {
        prefix: if s.prefix.is_empty() { None } else { Some(text(&s.prefix)?) },
        ports: s.ports.into_iter().take(64).map(port).collect::<Result<_, _>>()?,
        role: if s.role.is_empty() { None } else { Some(text(&s.role)?) },
        features: features.collect::<Result<_, _>>()?,
        any_feature: s.any_feature,
    })
}

fn lifetime(us: Option<u64>) -> Result<Option<Duration>, Status> {
    match us {
        Some(0) => Err(Status::invalid_argument("`lifetime_us` is 0; leave it out for the usual time")),
        us => Ok(us.map(Duration::from_micros)),
    }
}

type Answered<T> = Result<Response<T>, Status>;

pub(super) async fn list_questions(
    s: &Service,
    r: Request<pb::ListQuestionsRequest>,
) -> Answered<pb::ListQuestionsResponse> {
    let all = r.into_inner().all;
    s.ask(|reply| Command::Review(ReviewCommand::List { all, reply })).await.map(Response::new)
}

pub(super) async fn get_question(s: &Service, r: Request<pb::GetQuestionRequest>) -> Answered<pb::GetQuestionResponse> {
    let id = r.into_inner().id;
    let question = s.ask(|reply| Command::Review(ReviewCommand::Get { id, reply })).await?;
    Ok(Response::new(pb::GetQuestionResponse { question: Some(question) }))
}

pub(super) async fn answer_question(
    s: &Service,
    r: Request<pb::AnswerQuestionRequest>,
) -> Answered<pb::AnswerQuestionResponse> {
    let by = caller(&r)?;
    let r = r.into_inner();
    let id = r.id;
    let answer = NewAnswer {
        choice: choice(r.choice)?,
        width: width(r.width)?,
        limit: r.limit.map(TryInto::try_into).transpose()?,
        lifetime: lifetime(r.lifetime_us)?,
        comment: short("comment", r.comment)?,
    };
    let question = s.ask(|reply| Command::Review(ReviewCommand::Answer { id, answer, by, reply })).await?;
    Ok(Response::new(pb::AnswerQuestionResponse { question: Some(question) }))
}

pub(super) async fn undo_answer(s: &Service, r: Request<pb::UndoAnswerRequest>) -> Answered<pb::UndoAnswerResponse> {
    let by = caller(&r)?;
    let id = r.into_inner().id;
    s.ask(|reply| Command::Review(ReviewCommand::Undo { id, by, reply })).await.map(Response::new)
}

pub(super) async fn label_alert(s: &Service, r: Request<pb::LabelAlertRequest>) -> Answered<pb::LabelAlertResponse> {
    let by = caller(&r)?;
    let r = r.into_inner();
    let (alert_id, truth, scope) = (r.alert_id, truth(r.truth)?, scope(r.scope)?);
    let (lifetime, comment) = (lifetime(r.lifetime_us)?, short("comment", r.comment)?);
    let make =
        |reply| Command::Feedback(FeedbackCommand::Label { alert_id, truth, scope, lifetime, comment, by, reply });
    s.ask(make).await.map(Response::new)
}

pub(super) async fn list_labels(s: &Service, _: Request<pb::ListLabelsRequest>) -> Answered<pb::ListLabelsResponse> {
    let labels = s.ask(|reply| Command::Feedback(FeedbackCommand::Labels { reply })).await?;
    Ok(Response::new(pb::ListLabelsResponse { labels }))
}

pub(super) async fn undo_label(s: &Service, r: Request<pb::UndoLabelRequest>) -> Answered<pb::UndoLabelResponse> {
    let by = caller(&r)?;
    let id = r.into_inner().id;
    let label = s.ask(|reply| Command::Feedback(FeedbackCommand::UndoLabel { id, by, reply })).await?;
    Ok(Response::new(pb::UndoLabelResponse { label: Some(label) }))
}

pub(super) async fn list_suppressions(
    s: &Service,
    _: Request<pb::ListSuppressionsRequest>,
) -> Answered<pb::ListSuppressionsResponse> {
    let suppressions = s.ask(|reply| Command::Feedback(FeedbackCommand::Suppressions { reply })).await?;
    Ok(Response::new(pb::ListSuppressionsResponse { suppressions }))
}

pub(super) async fn add_suppression(
    s: &Service,
    r: Request<pb::AddSuppressionRequest>,
) -> Answered<pb::AddSuppressionResponse> {
    let by = caller(&r)?;
    let r = r.into_inner();
    let (scope, lifetime, comment) = (scope(r.scope)?, lifetime(r.lifetime_us)?, short("comment", r.comment)?);
    let make = |reply| Command::Feedback(FeedbackCommand::Suppress { scope, lifetime, comment, by, reply });
    let suppression = s.ask(make).await?;
    Ok(Response::new(pb::AddSuppressionResponse { suppression: Some(suppression) }))
}

pub(super) async fn remove_suppression(
    s: &Service,
    r: Request<pb::RemoveSuppressionRequest>,
) -> Answered<pb::RemoveSuppressionResponse> {
    let by = caller(&r)?;
    let id = r.into_inner().id;
    let suppression = s.ask(|reply| Command::Feedback(FeedbackCommand::Unsuppress { id, by, reply })).await?;
    Ok(Response::new(pb::RemoveSuppressionResponse { suppression: Some(suppression) }))
}
