//! JWTs of an issuer whose keys are read over HTTPS: found, rotated, away, and asked for by tokens that name unknown keys.

use longhaul::engine::{IdentityBinding, IdentitySettings, Issuer};
use longhaul::limits::{KEYS_KEPT, KEYS_PAUSE, KEYS_REREAD};
use longhaul::proto::google::longrunning::GetOperationRequest;
use longhaul::record::tokens::{Role, RoleGrant};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::Status;

use crate::support::identity::with;
use crate::support::issuer::{Manner, SigningPair, TestIssuer, claims};
use crate::support::*;

scenarios! {
    the_keys_of_an_issuer_are_found_by_its_configuration,
    a_token_that_is_not_of_its_issuer_is_refused_whatever_it_says,
    a_token_of_an_issuer_ends_at_its_time_on_the_connection_that_uses_it,
    a_new_key_is_known_at_its_first_use_and_a_former_one_no_longer,
    keys_are_kept_while_their_issuer_is_away_but_not_without_an_end,
    a_server_that_has_not_reached_an_issuer_refuses_none_of_its_tokens,
    however_many_tokens_name_unknown_keys_the_issuer_is_asked_once,
}

/// How long the keys rest before they are read again.
const REST: Duration = KEYS_REREAD.saturating_sub(KEYS_PAUSE);

fn by(issuer: Issuer) -> IdentitySettings {
    let parent = longhaul::operation::name::Parent::parse("").expect("the root");
    let grant = RoleGrant::new(Role::Viewer, parent, Vec::new()).expect("a grant");
    let member = "jwt:corp:sub=al*".parse().expect("a member");
    let bindings = vec![IdentityBinding { member, grants: vec![grant] }];
    IdentitySettings { issuers: vec![issuer], bindings, ..IdentitySettings::default() }
}

async fn get(fixture: &Fixture, token: &str, name: &str) -> Result<Operation, Status> {
    let request = GetOperationRequest { name: name.to_owned() };
    let mut client = fixture.operations();
    let answer = within("an answer", client.get_operation(with(token, request))).await;
    answer.map(tonic::Response::into_inner)
}

fn unauthenticated<T: std::fmt::Debug>(answer: Result<T, Status>) {
    answer.refused(Code::Unauthenticated, "UNAUTHENTICATED");
}

/// Lets time pass until the keys can be asked for again.
async fn rested(fixture: &Fixture) {
    let before = fixture.clock.count(REST);
    within("the keys to rest", async {
        while fixture.clock.count(REST) == before {
            fixture.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Lets the time pass after which the keys are read again, until the issuer was asked for them.
async fn asked_in_time(fixture: &Fixture, issuer: &TestIssuer) {
    let before = issuer.requests();
    fixture.let_pass(REST);
    within("a request", async {
        while issuer.requests() == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn the_keys_of_an_issuer_are_found_by_its_configuration(fixture: &Fixture) {
    let key = SigningPair::new("one");
    let issuer = TestIssuer::new(&key).await;
    let guarded = fixture.asking_for(by(issuer.discovered())).await;
    let name = fixture.started("q").await;
    get(&guarded, &key.token(&issuer.url, "alice"), &name).await.granted();
    get(&guarded, &key.token(&issuer.url, "alfred"), &name).await.granted();
    let bob = get(&guarded, &key.token(&issuer.url, "bob"), &name).await;
    bob.refused(Code::PermissionDenied, "PERMISSION_DENIED");
    assert_eq!(issuer.requests(), 2, "the configuration and the keys, once");
    guarded.stop().await;
}

async fn a_token_that_is_not_of_its_issuer_is_refused_whatever_it_says(fixture: &Fixture) {
    let (key, other) = (SigningPair::new("one"), SigningPair::new("one"));
    let issuer = TestIssuer::new(&key).await;
    let guarded = fixture.asking_for(by(issuer.at_url())).await;
    let name = fixture.started("q").await;
    get(&guarded, &key.token(&issuer.url, "alice"), &name).await.granted();
    let ours = claims(&issuer.url, "alice");
    for forged in [
        other.token(&issuer.url, "alice"),
        key.sign(&json!({ "alg": "none", "kid": "one" }), &ours),
        key.sign(&json!({ "alg": "HS256", "kid": "one" }), &ours),
        key.sign(&json!({ "alg": "RS256", "kid": "one" }), &ours),
        key.sign(&json!({ "alg": "EdDSA", "kid": "one", "crit": ["exp"] }), &ours),
        key.sign(&json!({ "alg": "EdDSA", "jwk": other.public(), "kid": "other" }), &ours),
        other.sign(&json!({ "alg": "EdDSA", "jwk": other.public() }), &ours),
        key.token("https://elsewhere.example.com", "alice"),
    ] {
        unauthenticated(get(&guarded, &forged, &name).await);
    }
    guarded.stop().await;
}

async fn a_token_of_an_issuer_ends_at_its_time_on_the_connection_that_uses_it(fixture: &Fixture) {
    let key = SigningPair::new("one");
    let issuer = TestIssuer::new(&key).await;
    let guarded = fixture.asking_for(by(issuer.at_url())).await;
    let name = fixture.started("q").await;
    // With half a minute for clocks that differ, it ends 2 s from now, long before it would be checked again.
    let end = fixture.at(Duration::from_secs(2)).seconds;
    let mut ending = claims(&issuer.url, "alice");
    ending["exp"] = json!(end - 30);
    let token = key.sign(&json!({ "alg": "EdDSA", "kid": "one" }), &ending);
    get(&guarded, &token, &name).await.granted();
    guarded.let_pass(Duration::from_millis(900));
    get(&guarded, &token, &name).await.granted();
    guarded.let_pass(Duration::from_millis(1_100));
    unauthenticated(get(&guarded, &token, &name).await);
    get(&guarded, &key.token(&issuer.url, "alice"), &name).await.granted();
    guarded.stop().await;
}

async fn a_new_key_is_known_at_its_first_use_and_a_former_one_no_longer(fixture: &Fixture) {
    let (first, second) = (SigningPair::new("one"), SigningPair::new("two"));
    let issuer = TestIssuer::new(&first).await;
    let guarded = fixture.asking_for(by(issuer.at_url())).await;
    let name = fixture.started("q").await;
    get(&guarded, &first.token(&issuer.url, "alice"), &name).await.granted();
    rested(&guarded).await;
    issuer.serves(&[&second]);
    get(&guarded, &second.token(&issuer.url, "alice"), &name).await.granted();
    unauthenticated(get(&guarded, &first.token(&issuer.url, "albert"), &name).await);

    // Without any token that names it, a key is read again in its time.
    rested(&guarded).await;
    issuer.serves(&[&first, &second]);
    asked_in_time(&guarded, &issuer).await;
    get(&guarded, &first.token(&issuer.url, "alice"), &name).await.granted();
    guarded.stop().await;
}

async fn keys_are_kept_while_their_issuer_is_away_but_not_without_an_end(fixture: &Fixture) {
    let key = SigningPair::new("one");
    let issuer = TestIssuer::new(&key).await;
    let guarded = fixture.asking_for(by(issuer.at_url())).await;
    let name = fixture.started("q").await;
    get(&guarded, &key.token(&issuer.url, "alice"), &name).await.granted();
    for manner in [Manner::Down, Manner::Silent, Manner::Endless, Manner::Elsewhere] {
        rested(&guarded).await;
        issuer.behaves(manner);
        asked_in_time(&guarded, &issuer).await;
        rested(&guarded).await;
        // One that the server has not seen before.
        let subject = format!("al{manner:?}");
        get(&guarded, &key.token(&issuer.url, &subject), &name).await.granted();
    }
    guarded.let_pass(KEYS_KEPT);
    rested(&guarded).await;
    let late = get(&guarded, &key.token(&issuer.url, "alma"), &name).await;
    late.refused(Code::Unavailable, "UNAUTHENTICATED");
    guarded.stop().await;
}

async fn a_server_that_has_not_reached_an_issuer_refuses_none_of_its_tokens(fixture: &Fixture) {
    let key = SigningPair::new("one");
    let issuer = TestIssuer::new(&key).await;
    issuer.behaves(Manner::Down);
    let guarded = fixture.asking_for(by(issuer.discovered())).await;
    let name = fixture.started("q").await;
    let token = key.token(&issuer.url, "alice");
    let early = get(&guarded, &token, &name).await;
    early.refused(Code::Unavailable, "UNAUTHENTICATED");
    unauthenticated(get(&guarded, "", &name).await);
    rested(&guarded).await;
    issuer.behaves(Manner::Well);
    get(&guarded, &token, &name).await.granted();
    guarded.stop().await;
}

async fn however_many_tokens_name_unknown_keys_the_issuer_is_asked_once(fixture: &Fixture) {
    let key = SigningPair::new("one");
    let issuer = TestIssuer::new(&key).await;
    let guarded = fixture.asking_for(by(issuer.at_url())).await;
    let name = fixture.started("q").await;
    get(&guarded, &key.token(&issuer.url, "alice"), &name).await.granted();
    rested(&guarded).await;
    let before = issuer.requests();
    let mut flood = JoinSet::new();
    for number in 0..FLOOD {
        let stranger = SigningPair::new(&format!("unknown-{number}"));
        let token = stranger.token(&issuer.url, "alice");
        let request = with(&token, GetOperationRequest { name: name.clone() });
        let mut client = guarded.operations();
        flood.spawn(async move { client.get_operation(request).await.map(drop) });
    }
    while let Some(answer) = within("a refusal", flood.join_next()).await {
        unauthenticated(answer.expect("no panic"));
    }
    assert!(issuer.requests() <= before + 1, "{} requests", issuer.requests() - before);
    // Neither is the next one, before its time.
    let stranger = SigningPair::new("unknown");
    unauthenticated(get(&guarded, &stranger.token(&issuer.url, "alice"), &name).await);
    assert!(issuer.requests() <= before + 1);
    get(&guarded, &key.token(&issuer.url, "aldous"), &name).await.granted();
    guarded.stop().await;
}

const FLOOD: usize = 200;
