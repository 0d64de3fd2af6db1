//! The API over HTTP.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use longhaul::client::AuthorizedChannel;
use longhaul::proto::longhaul::v1::callback::{Event, Format};
use longhaul::proto::longhaul::v1::producers_client::ProducersClient;
use longhaul::proto::longhaul::v1::{Callback, OperationOptions, StartOperationRequest};
use longhaul::worker::{Json, Pack};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::{Code, Request};

use super::game::{Game, METHOD, Move, QUEUE};

#[derive(Clone)]
struct Api {
    producers: ProducersClient<AuthorizedChannel>,
    game: Game,
}

/// Serves the API until the listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    longhaul: AuthorizedChannel,
    game: Game,
) -> std::io::Result<()> {
    let api = Api { producers: ProducersClient::new(longhaul), game };
    let router = Router::new()
        .route("/board", get(get_board))
        .route("/board/{row}/{column}", get(get_square).put(put_square))
        .route("/openapi.yaml", get(async || DOCUMENT))
        .with_state(api);
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn get_board(State(api): State<Api>) -> Response<Body> {
    json(&api.game.status())
}

async fn get_square(
    State(api): State<Api>,
    Path((row, column)): Path<(String, String)>,
) -> Response<Body> {
    match square(&row, &column) {
        Some((row, column)) => json(&api.game.status().board[row - 1][column - 1]),
        None => refused("Illegal coordinates."),
    }
}

/// Starts the move. longhaul calls `progressUrl` once the move is made, or cannot be made; without the header it makes no call.
async fn put_square(
    State(mut api): State<Api>,
    Path((row, column)): Path<(String, String)>,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    let Some((row, column)) = square(&row, &column) else { return refused("Illegal coordinates.") };
    let mark = serde_json::from_str::<String>(&body).ok();
    let Some(mark) = mark.filter(|mark| mark == "X" || mark == "O") else {
        return refused("Invalid Mark (X or O).");
    };
    let callback = Callback {
        uri: "{$request.header.progressUrl}".to_owned(),
        events: vec![Event::Done.into()],
        // The body is the `status` of this API, without an envelope.
        format: Format::ResponseBody.into(),
        ..Callback::default()
    };
    let options = OperationOptions { callbacks: vec![callback], ..OperationOptions::default() };
    let mut request = Request::new(StartOperationRequest {
        queue: QUEUE.to_owned(),
        method: METHOD.to_owned(),
        request: Some(Json(Move { row, column, mark }).pack()),
        options: Some(options),
        ..StartOperationRequest::default()
    });
    // Over gRPC, headers are metadata.
    if let Some(url) = headers.get("progressUrl").and_then(|url| url.to_str().ok()?.parse().ok()) {
        request.metadata_mut().insert("progressurl", url);
    }
    match api.producers.start_operation(request).await {
        Ok(_) => respond(StatusCode::ACCEPTED, HTML, String::new()),
        Err(status) if status.code() == Code::InvalidArgument => refused(status.message()),
        Err(status) => respond(StatusCode::SERVICE_UNAVAILABLE, HTML, status.message().to_owned()),
    }
}

/// The coordinates of a square, from 1 to 3.
fn square(row: &str, column: &str) -> Option<(usize, usize)> {
    let coordinate = |text: &str| text.parse().ok().filter(|number| (1..=3).contains(number));
    Some((coordinate(row)?, coordinate(column)?))
}

fn refused(why: &str) -> Response<Body> {
    respond(StatusCode::BAD_REQUEST, HTML, why.chars().take(LONGEST_MESSAGE).collect())
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    respond(StatusCode::OK, "application/json", serde_json::json!(value).to_string())
}

fn respond(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(crate) const DOCUMENT: &str = include_str!("openapi.yaml");
/// As the document has it.
const HTML: &str = "text/html";
const LONGEST_MESSAGE: usize = 256;
