//! The control socket as a file.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

#[tokio::test]
async fn the_socket_is_for_its_owner_and_group_and_one_agent() {
    let agent = agent(drop);
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&agent.path), 0o660);
    let refused = ControlSocket::bind(&agent.path, None).unwrap_err().to_string();
    assert!(refused.contains(&format!("is in use by process {}", std::process::id())), "{refused}");
    // The refused one has not harmed the first.
    agent.client().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_other_files_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weir.sock");
    // As a killed agent leaves it: the file is there, nobody listens.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let stale = Client::connect(&path).await.err().expect("nobody listens").to_string();
    assert!(stale.contains("no agent answers at") && stale.contains("weir run"), "{stale}");
    let socket = ControlSocket::bind(&path, None).unwrap();
    assert_eq!(socket.path(), path);
    tokio::net::UnixStream::connect(&path).await.unwrap();

    let file = dir.path().join("notes.txt");
    std::fs::write(&file, "mine").unwrap();
    let refused = ControlSocket::bind(&file, None).unwrap_err().to_string();
    assert!(refused.contains("exists and is no socket"), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");

    let group = nix::unistd::Group::from_gid(nix::unistd::getgid()).unwrap().expect("our group has a name");
    let _socket = ControlSocket::bind(&dir.path().join("g.sock"), Some(&group.name)).unwrap();
    let meta = std::fs::metadata(dir.path().join("g.sock")).unwrap();
    assert_eq!((meta.gid(), meta.permissions().mode() & 0o777), (group.gid.as_raw(), 0o660));

    let refused = ControlSocket::bind(&dir.path().join("x.sock"), Some("no-such-group-here")).unwrap_err().to_string();
    assert!(refused.contains("there is no group `no-such-group-here`"), "{refused}");
    let refused = ControlSocket::bind(&dir.path().join("y".repeat(120)), None).unwrap_err().to_string();
    assert!(refused.contains("too long"), "{refused}");
}

#[tokio::test]
async fn a_missing_agent_is_named_with_what_starts_it() {
    let e = Client::connect(Path::new("/nowhere/weir.sock")).await.err().unwrap().to_string();
    assert!(e.contains("/nowhere/weir.sock") && e.contains("weir run -i"), "{e}");
}
