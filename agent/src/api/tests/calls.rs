//! Each call and its command.

use std::sync::Mutex;

use super::*;
use crate::enforce::HitCourse;

#[tokio::test]
async fn a_status_arrives_as_it_was_given() {
    let agent = agent(|c| match c {
        Command::Status { reply } => drop(reply.send(Ok(full_status()))),
        other => panic!("{other:?}"),
    });
    assert_eq!(agent.client().await.status().await.unwrap(), full_status());
    agent.stop().await;
}

#[tokio::test]
async fn decisions_carry_who_made_them() {
    let agent = agent(|c| match c {
        Command::AddDecision { new, reply } => {
            let report = DecisionReport {
                decision: decision(&new),
                enforced: true,
                awaiting_confirmation: new.confirm_within.is_some(),
                packets: 1,
                bytes: 2,
                last_hit_us: Some(3),
                note: "n".into(),
                course: Some(HitCourse { start_us: 30_000_000, packets: vec![1, 0, 2] }),
            };
            drop(reply.send(Ok(report)));
        }
        other => panic!("{other:?}"),
    });
    let target: Target = "192.0.2.7/tcp/22".parse().unwrap();
    let lifetime = Some(Duration::from_secs(90));
    let mut client = agent.client().await;
    let added =
        client.add_decision(target, (Action::Shadow, None), Sides::In, lifetime, "scans", (None, false)).await.unwrap();
    let uid = nix::unistd::Uid::current();
    let user = nix::unistd::User::from_uid(uid).unwrap();
    let by = user.map_or(format!("uid {uid}"), |u| format!("uid {uid} ({})", u.name));
    assert_eq!(added.decision.reason, format!("scans, by {by}"));
    assert_eq!(
        (added.decision.target, added.decision.action, added.decision.sides),
        (target, Action::Shadow, Sides::In)
    );
    assert_eq!(added.decision.expires_us, Some(91_000_000));
    assert_eq!(
        (added.enforced, added.packets, added.bytes, added.last_hit_us, added.note.as_str()),
        (true, 1, 2, Some(3), "n")
    );
    assert_eq!(added.course, Some(HitCourse { start_us: 30_000_000, packets: vec![1, 0, 2] }));
    let forever = client
        .add_decision(target, (Action::Drop, None), Sides::Both, None, "", (Some(Duration::from_secs(30)), false))
        .await
        .unwrap();
    assert!(forever.awaiting_confirmation && !added.awaiting_confirmation);
    assert_eq!((forever.decision.expires_us, forever.decision.reason), (None, format!("by {by}")));
    agent.stop().await;
}

#[tokio::test]
async fn every_call_becomes_its_command() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let entry = |prefix: Prefix| AllowReport {
        prefix,
        comment: "c".into(),
        origin: "o".into(),
        removable: true,
        expires_us: None,
    };
    let agent = agent(move |c| {
        let mut words = format!("{c:?}");
        words.truncate(words.find(['{', ' ']).unwrap_or(words.len()));
        log.lock().unwrap().push(words);
        match c {
            Command::ListDecisions { reply } => drop(reply.send(Ok(Vec::new()))),
            Command::DeleteDecision { which, reply, .. } => {
                drop(reply.send(Err(CommandError::NotFound(format!("there is no {which}")))));
            }
            Command::ConfirmDecision { id, reply, .. } => {
                drop(reply.send(Err(weir_core::decisions::Refusal::NotAwaiting(id).into())));
            }
            Command::AllowList { reply } => drop(reply.send(Ok(vec![entry("10.0.0.0/8".parse().unwrap())]))),
            Command::AllowAdd { prefix, comment, lifetime, reply, .. } => {
                let expires_us = lifetime.map(|l| l.as_micros() as u64);
                let entry = AllowReport { comment, expires_us, ..entry(prefix) };
                drop(reply.send(Ok(AllowAdded { entry, lifted: Vec::new() })));
            }
            Command::AllowRemove { prefix, reply, .. } => drop(reply.send(Ok(entry(prefix)))),
            Command::AllowCheck { prefix, reply } => drop(reply.send(Ok(vec![entry(prefix)]))),
            Command::Learn { duration, min_flows, reply, .. } => {
                let mut progress = full_status().learning.unwrap();
                progress.duration_us = duration.unwrap().as_micros() as u64;
                progress.min_flows = min_flows.unwrap_or(1);
                drop(reply.send(Ok(progress)));
            }
            Command::ModelStatus { reply } => drop(reply.send(Ok(vec![full_status().bundle.unwrap()]))),
            Command::ModelPromote { id, reply, .. } => {
                let bundle = full_status().bundle.unwrap();
                assert_eq!(id, None);
                drop(reply.send(Ok(BundleReport { promoted: true, ..bundle })));
            }
            Command::ModelRollBack { steps, reply, .. } => {
                let bundle = full_status().bundle.unwrap();
                drop(reply.send(Ok(BundleReport { steps_back: Some(steps as u32), ..bundle })));
            }
            Command::ModelChallenge { id, reply, .. } => {
                let bundle = full_status().bundle.unwrap();
                drop(reply.send(Ok(BundleReport { id, challenger: true, ..bundle })));
            }
            Command::ModelUnchallenge { reply, .. } => drop(reply.send(Ok("a1b2".into()))),
            Command::ModelInspect { id, reply } => {
                drop(reply.send(Ok(crate::proto::BundleDetail { hash: id, ..Default::default() })));
            }
            Command::ModelCompare { reply } => {
                let over = "live traffic".into();
                drop(reply.send(Ok(crate::proto::Comparison { over, ..Default::default() })));
            }
            Command::ListAlerts { within, since_us, limit, reply } => {
                assert_eq!((within, since_us, limit), (Some("2001:db8::/32".parse().unwrap()), 5, 7));
                drop(reply.send(Ok(vec![alert()])));
            }
            Command::GetAlert { id, reply } => drop(reply.send(Ok(AlertReport { id, ..alert() }))),
            Command::ModelDrift { reply } => drop(reply.send(Ok(drifting()))),
            Command::FlushRecord { reply } => drop(reply.send(Ok(full_status().record.unwrap()))),
            Command::ReloadConfig { reply, .. } => {
                let report = ReloadReport { applied: vec!["mode".into()], needs_restart: vec!["socket".into()] };
                drop(reply.send(Ok(report)));
            }
            other => panic!("{other:?}"),
        }
    });
    let mut c = agent.client().await;
    let prefix: Prefix = "2001:db8::/32".parse().unwrap();
    assert!(c.list_decisions().await.unwrap().is_empty());
    let e = c.delete_decision(DecisionRef::Id(5)).await.unwrap_err();
    assert_eq!(message(&e), (tonic::Code::NotFound, "there is no decision 5".into()));
    let e = c.delete_decision(DecisionRef::Target("10.0.0.1".parse().unwrap())).await.unwrap_err();
    assert_eq!(message(&e).1, "there is no 10.0.0.1");
    let e = c.confirm_decision(6).await.unwrap_err();
    assert_eq!(message(&e), (tonic::Code::FailedPrecondition, "decision 6 awaits no confirmation".into()));
    assert_eq!(c.list_allow().await.unwrap()[0].origin, "o");
    let added = c.add_allow(prefix, "mine", Some(Duration::from_secs(3600))).await.unwrap().entry;
    assert_eq!((added.comment.as_str(), added.expires_us), ("mine", Some(3_600_000_000)));
    assert_eq!(c.remove_allow(prefix).await.unwrap().prefix, prefix);
    assert!(c.check_allow(prefix).await.unwrap()[0].removable);
    assert_eq!(
        c.learn(Some(Duration::from_secs(2)), Some(9), LearnFrom::Record { since: None }).await.unwrap().min_flows,
        9
    );
    assert_eq!(c.model_status().await.unwrap()[0].profiles, ["full", "source"]);
    assert!(c.promote_model(None).await.unwrap().promoted);
    assert_eq!(c.rollback_model(2).await.unwrap().steps_back, Some(2));
    assert!(c.challenge_model(Some("a1b2")).await.unwrap().is_some_and(|b| b.challenger && b.id == "a1b2"));
    assert_eq!(c.challenge_model(None).await.unwrap(), None);
    assert_eq!(c.inspect_model("a1b2").await.unwrap().hash, "a1b2");
    assert_eq!(c.compare_models().await.unwrap().over, "live traffic");
    assert_eq!(c.list_alerts(Some(prefix), 5, 7).await.unwrap(), [alert()]);
    assert_eq!(c.get_alert(9).await.unwrap(), AlertReport { id: 9, ..alert() });
    assert_eq!(c.model_drift().await.unwrap(), drifting());
    assert_eq!(c.flush_record().await.unwrap(), full_status().record.unwrap());
    assert_eq!(c.reload_config().await.unwrap().needs_restart, ["socket"]);
    let expected = [
        "ListDecisions",
        "DeleteDecision",
        "DeleteDecision",
        "ConfirmDecision",
        "AllowList",
        "AllowAdd",
        "AllowRemove",
        "AllowCheck",
        "Learn",
        "ModelStatus",
        "ModelPromote",
        "ModelRollBack",
        "ModelChallenge",
        "ModelUnchallenge",
        "ModelInspect",
        "ModelCompare",
        "ListAlerts",
        "GetAlert",
        "ModelDrift",
        "FlushRecord",
        "ReloadConfig",
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
    agent.stop().await;
}

#[tokio::test]
async fn refusals_keep_their_words_and_get_the_right_code() {
    use tonic::Code;
    let cases = [
        (CommandError::Invalid("i".into()), Code::InvalidArgument),
        (CommandError::Exists("e".into()), Code::AlreadyExists),
        (CommandError::Refused("covers the gateway 10.0.0.1".into()), Code::FailedPrecondition),
        (CommandError::Full("f".into()), Code::ResourceExhausted),
        (CommandError::Failed("x".into()), Code::Internal),
    ];
    let mut errors = cases.clone().map(|(e, _)| e).into_iter();
    let agent = agent(move |c| match c {
        Command::Status { reply } => drop(reply.send(Err(errors.next().unwrap()))),
        other => panic!("{other:?}"),
    });
    let mut client = agent.client().await;
    for (error, code) in cases {
        let e = client.status().await.unwrap_err();
        assert_eq!(message(&e), (code, error.to_string()));
        assert_eq!(e.is_usage(), code == Code::InvalidArgument);
    }
    agent.stop().await;
}

#[tokio::test]
async fn nonsense_never_reaches_the_event_loop() {
    let agent = agent(|c| panic!("{c:?}"));
    let mut client = agent.client().await;
    let target: Target = "10.0.0.1".parse().unwrap();
    for (reason, words) in [("x".repeat(501), "longer than 500"), ("a\nb".into(), "control characters")] {
        let e = client
            .add_decision(target, (Action::Drop, None), Sides::In, None, &reason, (None, false))
            .await
            .unwrap_err();
        let (code, text) = message(&e);
        assert!(code == tonic::Code::InvalidArgument && text.contains(words), "{text}");
    }
    let e = client
        .add_decision(target, (Action::Drop, None), Sides::In, Some(Duration::ZERO), "", (None, false))
        .await
        .unwrap_err();
    assert!(message(&e).1.contains("lifetime_us"));
    agent.stop().await;
}

#[tokio::test]
async fn a_full_queue_and_a_stopping_agent_are_told_apart() {
    // Nobody takes the commands: the first one fills the queue.
    let (commands, waiting) = mpsc::channel(1);
    let agent = agent_with(commands.clone());
    let mut first = agent.client().await;
    let pending = tokio::spawn(async move { first.status().await });
    while commands.capacity() > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let busy = agent.client().await.status().await.unwrap_err();
    let (code, words) = message(&busy);
    assert!(code == tonic::Code::ResourceExhausted && words.contains("try again"), "{words}");
    drop(waiting);
    let e = pending.await.unwrap().unwrap_err();
    assert_eq!(message(&e), (tonic::Code::Unavailable, "the agent is stopping".into()));
    agent.stop().await;
}
