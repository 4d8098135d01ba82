//! Bundles on their way in.

use super::*;

/// Messages as a client sends them that is not ours.
fn sent(parts: Vec<pb::load_model_request::Part>) -> impl tokio_stream::Stream<Item = pb::LoadModelRequest> + Send {
    tokio_stream::iter(parts.into_iter().map(|part| pb::LoadModelRequest { part: Some(part) }))
}

#[tokio::test]
async fn a_bundle_arrives_file_by_file_and_nothing_stays_of_one_that_is_too_much() {
    use pb::load_model_request::Part;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let (got, mut loaded) = mpsc::unbounded_channel();
    let mut n = 0;
    let agent = agent(move |c| match c {
        Command::ModelStage { reply } => {
            n += 1;
            let path = root.join(format!("upload-{n}"));
            std::fs::create_dir(&path).unwrap();
            drop(reply.send(Ok(crate::model::Staging::new(path, Arc::new(())))));
        }
        Command::ModelLoad { staged, purpose, reply, .. } => {
            let read = |name: &str| std::fs::read(staged.path().join(name)).unwrap();
            got.send((purpose, read("manifest.yaml"), read("a.onnx"))).unwrap();
            drop(reply.send(Ok(full_status().bundle.unwrap())));
        }
        other => panic!("{other:?}"),
    });
    let mut client = raw_client(&agent.path).await;
    let start = Part::Start(pb::LoadModelStart { purpose: pb::LoadPurpose::Challenge.into() });
    let file = |name: &str| Part::File(name.into());
    let data = |bytes: &[u8]| Part::Data(bytes.to_vec());
    let good =
        vec![start.clone(), file("manifest.yaml"), data(b"bundle"), data(b"_version"), file("a.onnx"), data(b"x")];
    client.load_model(sent(good)).await.unwrap();
    assert_eq!(loaded.recv().await.unwrap(), (Purpose::Challenge, b"bundle_version".to_vec(), b"x".to_vec()));

    let chunk = vec![0u8; 1 << 20];
    let huge = [vec![start.clone(), file("a.onnx")], vec![data(&chunk); 65]].concat();
    let many: Vec<_> = (0..20).map(|i| file(&format!("{i}.onnx"))).collect();
    for (parts, words) in [
        (huge, "a.onnx has more than 67108864 bytes"),
        ([vec![start.clone()], many].concat(), "at most 16 files"),
        (vec![start.clone(), file("../../etc/passwd")], "plain names"),
        (vec![start.clone(), file("a"), file("a")], "File exists"),
        (vec![start.clone(), data(b"x")], "before the name"),
        (vec![file("a")], "the first message"),
        (vec![start.clone()], "no file came"),
        (Vec::new(), "no file came"),
    ] {
        let refused = client.load_model(sent(parts)).await.unwrap_err();
        assert!(refused.message().contains(words), "{words}: {refused}");
    }
    // Whoever asked is told before the folder goes.
    let empty = || std::fs::read_dir(dir.path()).unwrap().next().is_none();
    for _ in 0..500 {
        if empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(empty(), "nothing is left of what was refused, nor of what was used");
    drop(client);
    agent.stop().await;
}

#[tokio::test]
async fn a_part_of_more_than_1_mib_is_refused() {
    use pb::load_model_request::Part;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let agent = agent(move |c| match c {
        Command::ModelStage { reply } => {
            let path = root.join("upload");
            std::fs::create_dir(&path).unwrap();
            drop(reply.send(Ok(crate::model::Staging::new(path, Arc::new(())))));
        }
        other => panic!("{other:?}"),
    });
    let start = Part::Start(pb::LoadModelStart { purpose: pb::LoadPurpose::Challenge.into() });
    let parts = vec![start, Part::File("a.onnx".into()), Part::Data(vec![0; (1 << 20) + 1])];
    let refused = raw_client(&agent.path).await.load_model(sent(parts)).await.unwrap_err();
    assert!(refused.message().contains("send at most 1048576 at once"), "{refused}");
    agent.stop().await;
}
