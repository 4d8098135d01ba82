//! Callers who want too much.

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::*;

async fn channel(path: &Path) -> tonic::transport::Channel {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    tonic::transport::Endpoint::from_static("http://weir.invalid").connect_with_connector(connector).await.unwrap()
}

#[tokio::test]
async fn the_health_service_answers_and_tells_of_the_stop() {
    let agent = agent(drop);
    let mut health = HealthClient::new(channel(&agent.path).await);
    let of = |service: &str| HealthCheckRequest { service: service.into() };
    for service in ["", "weir.v1.Weir"] {
        let status = health.check(of(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    assert_eq!(health.check(of("other")).await.unwrap_err().code(), tonic::Code::NotFound);
    let mut watch = health.watch(of("weir.v1.Weir")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let told = tokio::spawn(async move { watch.message().await });
    agent.stop().await;
    assert!(matches!(told.await.unwrap(), Ok(Some(s)) if s.status() == ServingStatus::NotServing));
}

#[tokio::test]
async fn a_call_that_is_not_in_the_table_is_refused() {
    let agent = agent(|c| panic!("{c:?}"));
    let mut grpc = tonic::client::Grpc::new(channel(&agent.path).await);
    for path in
        ["/weir.v1.Weir/Shell", "/weir.v2.Weir/Status", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"]
    {
        grpc.ready().await.unwrap();
        let codec: tonic_prost::ProstCodec<pb::StatusRequest, pb::StatusResponse> = Default::default();
        let answer = grpc.unary(tonic::Request::new(pb::StatusRequest {}), path.parse().unwrap(), codec).await;
        assert_eq!(answer.unwrap_err().code(), tonic::Code::Unimplemented, "{path}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_message_of_64_mib_is_refused_and_the_next_call_is_answered() {
    let agent = agent(|c| match c {
        Command::Status { reply } => drop(reply.send(Ok(full_status()))),
        other => panic!("{other:?}"),
    });
    let mut client = raw_client(&agent.path).await;
    for bytes in [MAX_MESSAGE + 1, 64 << 20] {
        let request = pb::AddAllowRequest { prefix: "10.0.0.1".into(), comment: "x".repeat(bytes), lifetime_us: None };
        let refused = client.add_allow(request).await.unwrap_err();
        let early =
            [tonic::Code::OutOfRange, tonic::Code::ResourceExhausted, tonic::Code::Unknown, tonic::Code::Internal];
        assert!(early.contains(&refused.code()), "{refused}");
    }
    agent.client().await.status().await.unwrap();
    agent.stop().await;
}

#[tokio::test]
async fn a_deadline_is_kept_when_the_agent_does_not_answer() {
    let (commands, _waiting) = queue();
    let agent = agent_with(commands);
    let mut request = tonic::Request::new(pb::StatusRequest {});
    request.set_timeout(Duration::from_millis(300));
    let began = std::time::Instant::now();
    let late = raw_client(&agent.path).await.status(request).await.unwrap_err();
    assert!(matches!(late.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled), "{late}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    drop(_waiting);
    agent.stop().await;
}

#[tokio::test]
async fn one_caller_takes_no_more_streams_than_one_may() {
    let agent = agent(|c| match c {
        Command::Status { reply } => drop(reply.send(Ok(full_status()))),
        other => panic!("{other:?}"),
    });
    let mut streams = Vec::new();
    let mut refused = 0;
    // Each connection has room for 64.
    for _ in 0..3 {
        let mut client = raw_client(&agent.path).await;
        for _ in 0..50 {
            match client.watch_events(pb::WatchEventsRequest::default()).await {
                Ok(stream) => streams.push(stream),
                Err(e) => {
                    assert_eq!(e.code(), tonic::Code::ResourceExhausted, "{e}");
                    assert!(e.message().contains("has 128 calls open, as many as one may"), "{e}");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!((streams.len(), refused), (128, 22));
    // Who ends some gets others.
    streams.truncate(100);
    let mut client = agent.client().await;
    let mut answer = client.status().await;
    for _ in 0..200 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer = client.status().await;
    }
    answer.unwrap();
    drop(streams);
    agent.stop().await;
}

#[tokio::test]
async fn one_user_takes_no_more_connections_than_one_may_and_silent_ones_are_closed() {
    use tokio::io::AsyncReadExt;
    let agent = agent(drop);
    let mut open = Vec::new();
    for _ in 0..80 {
        open.push(tokio::net::UnixStream::connect(&agent.path).await.unwrap());
    }
    let began = std::time::Instant::now();
    for mut stream in open {
        let end = tokio::time::timeout(Duration::from_secs(40), async {
            // The server says what it has to say, and hangs up.
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await
        });
        let _ = end.await.expect("it is closed");
    }
    assert!(began.elapsed() < Duration::from_secs(35), "{:?}", began.elapsed());
    agent.client().await;
    agent.stop().await;
}
