//! Spans before a double of the collector that speaks the protocol.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::transport::server::Connected;

use super::wire::{ExportRequest, ExportResponse, OneValue, PartialSuccess, WireSpan};
use super::*;

/// A collector: what came, and how it answers.
#[derive(Clone, Default)]
struct Collector {
    got: Arc<Mutex<Vec<ExportRequest>>>,
    /// Requests that it still refuses.
    refuse: Arc<AtomicU64>,
    rejects: Arc<AtomicU64>,
}

impl tonic::server::NamedService for Collector {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl tower::Service<http::Request<Body>> for Collector {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            assert_eq!(request.uri().path(), super::wire::EXPORT);
            let body = request.into_body().collect().await.unwrap().to_bytes();
            if this.refuse.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
                return Ok(tonic::Status::unavailable("not now").into_http());
            }
            let request = ExportRequest::decode(&body[5..]).unwrap();
            this.got.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            let rejected_spans = this.rejects.load(Ordering::SeqCst) as i64;
            let partial_success = Some(PartialSuccess { rejected_spans, error_message: String::new() });
            let answer = ExportResponse { partial_success }.encode_to_vec();
            let mut frame = BytesMut::new();
            frame.put_u8(0);
            frame.put_u32(answer.len() as u32);
            frame.put_slice(&answer);
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            let frames: [Result<http_body::Frame<Bytes>, tonic::Status>; 2] =
                [Ok(http_body::Frame::data(frame.freeze())), Ok(http_body::Frame::trailers(trailers))];
            let mut response = http::Response::new(Body::new(StreamBody::new(tokio_stream::iter(frames))));
            response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
            Ok(response)
        })
    }
}

/// The server is told nothing of who connects.
struct Shaken(TlsStream<TcpStream>);

impl Connected for Shaken {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Shaken {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl AsyncWrite for Shaken {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Collector {
    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_service(self.clone());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        at
    }

    /// The same behind TLS, with a certificate for 127.0.0.1; the PEM of who has signed it.
    async fn start_tls(&self) -> (SocketAddr, String) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(crate::api::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (to, streams) = mpsc::channel(4);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Whoever does not trust us hangs up.
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                to.send(Ok::<_, std::io::Error>(Shaken(stream))).await.unwrap();
            }
        });
        let server = tonic::transport::Server::builder().add_service(self.clone());
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(streams)));
        (at, made.cert.pem())
    }

    fn spans(&self) -> Vec<WireSpan> {
        let got = self.got.lock().unwrap();
        let resources = got.iter().flat_map(|r| &r.resource_spans);
        resources.flat_map(|r| &r.scope_spans).flat_map(|s| s.spans.clone()).collect()
    }
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_collector_gets_spans_with_their_parents_and_attributes() {
    let collector = Collector::default();
    // One that restarts gets them later.
    collector.refuse.store(1, Ordering::SeqCst);
    let tracer = Tracer::to(&format!("http://{}", collector.start().await), None).unwrap();
    let whole = Span::new("epoch", 1_700_000_000_000_000, Duration::from_millis(30)).with("flows", Value::Int(7));
    tracer.record(whole.part("drain", 1_700_000_000_000_000, Duration::from_millis(10)));
    tracer.record(
        Span::ended("Status", Duration::from_millis(1)).served().failed(true).with("outcome", Value::Word("failed")),
    );
    tracer.record(whole);
    until("three spans", || collector.spans().len() == 3).await;
    let spans = collector.spans();
    let of = |name: &str| spans.iter().find(|s| s.name == name).unwrap();
    let (epoch, drain, call) = (of("epoch"), of("drain"), of("Status"));
    assert_eq!((epoch.trace_id.len(), epoch.span_id.len(), epoch.parent_span_id.len()), (16, 8, 0));
    assert_eq!((&drain.trace_id, &drain.parent_span_id), (&epoch.trace_id, &epoch.span_id));
    assert_eq!(epoch.end_time_unix_nano - epoch.start_time_unix_nano, 30_000_000);
    assert_eq!(epoch.start_time_unix_nano, 1_700_000_000_000_000_000);
    let value = |s: &WireSpan| s.attributes[0].value.clone().unwrap().value.unwrap();
    assert_eq!((value(epoch), value(call)), (OneValue::Int(7), OneValue::Text("failed".into())));
    assert_eq!((call.kind, call.status.as_ref().unwrap().code, &epoch.status), (2, 2, &None));
    assert_ne!(call.trace_id, epoch.trace_id);
    let got = collector.got.lock().unwrap()[0].clone();
    let about = &got.resource_spans[0].resource.as_ref().unwrap().attributes;
    assert!(about.iter().any(|a| a.key == "service.name"));
    assert_eq!(tracer.lost(), Some(0));
}

#[tokio::test]
async fn what_no_collector_takes_is_counted_and_holds_nobody_up() {
    // Nobody listens there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    let tracer = Tracer::to(&format!("http://{at}"), None).unwrap();
    let began = Instant::now();
    for _ in 0..3 * QUEUE {
        tracer.record(Span::ended("epoch", Duration::from_millis(1)));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(tracer.lost() >= Some(QUEUE as u64), "{:?}", tracer.lost());
    let collector = Collector::default();
    collector.rejects.store(2, Ordering::SeqCst);
    let other = Tracer::to(&format!("http://{}", collector.start().await), None).unwrap();
    other.record(Span::ended("epoch", Duration::from_millis(1)));
    until("what it rejects", || other.lost() == Some(2)).await;
    assert_eq!((Tracer::default().lost(), Tracer::default().is_on()), (None, false));
}

#[tokio::test]
async fn https_takes_spans_to_whom_the_authority_vouches_for_and_to_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::default();
    let (at, pem) = collector.start_tls().await;
    let (_, other) = Collector::default().start_tls().await;
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (right, wrong) = (file("right.pem", &pem), file("wrong.pem", &other));
    let send = async |url: String, ca: &Path| {
        let channel = export::channel(&url, Some(ca)).unwrap();
        let request = super::wire::request(vec![Span::ended("epoch", Duration::from_millis(1))]);
        export::attempt(&channel, request).await.map_err(|e| export::reason(&e))
    };
    let refused = send(format!("https://{at}"), &wrong).await.unwrap_err();
    assert!(refused.contains("an authority that is not trusted; name its PEM file as `ca_file`"), "{refused}");
    // The certificate is for the address alone.
    let refused = send(format!("https://localhost:{}", at.port()), &right).await.unwrap_err();
    assert!(refused.contains("for other names"), "{refused}");
    assert!(collector.spans().is_empty());
    let tracer = Tracer::to(&format!("https://{at}"), Some(&right)).unwrap();
    tracer.record(Span::ended("epoch", Duration::from_millis(1)));
    until("a span over TLS", || collector.spans().len() == 1).await;
    assert_eq!(tracer.lost(), Some(0));
    // Said at the start rather than at the first span.
    let empty = file("empty.pem", "");
    let refused = Tracer::to(&format!("https://{at}"), Some(&empty)).unwrap_err();
    assert!(refused.contains("`tracing.ca_file`") && refused.contains("empty.pem"), "{refused}");
}
