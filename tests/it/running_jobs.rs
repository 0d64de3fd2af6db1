//! Runs of jobs: they have what a start with the same options has, and calls that are sent again change nothing.

use longhaul::engine::TenantLimits;
use pb::callback::Event;
use pb::concurrency::Policy;
use tonic::Status;

use crate::jobs::{every, executions, get, job, work};
use crate::queues;
use crate::support::*;

scenarios! {
    over every face;
    each_run_has_the_callbacks_of_its_job,
    an_option_that_runs_cannot_have_is_refused_by_its_field,
    a_call_that_is_sent_again_changes_a_job_once;
    over grpc;
    runs_age_as_their_queue_says,
    a_paused_queue_holds_the_runs_of_its_jobs,
    a_concurrency_key_holds_over_the_runs_of_all_jobs,
    a_tenant_that_starts_too_fast_is_refused_runs_and_reruns,
    callbacks_of_runs_and_of_reruns_count_for_their_tenant,
    callbacks_of_scheduled_runs_leave_less_to_callers,
}

fn with(options: pb::OperationOptions) -> pb::Job {
    let mut job = job();
    job.template.as_mut().expect("a template").options = Some(options);
    job
}

async fn create(fixture: &Fixture, job_id: &str, job: pb::Job) -> Result<pb::Job, Status> {
    let request = pb::CreateJobRequest {
        parent: "projects/p".to_owned(),
        job_id: job_id.to_owned(),
        job: Some(job),
        ..Default::default()
    };
    let created = within("create", fixture.jobs().create_job(request)).await;
    created.map(tonic::Response::into_inner)
}

async fn run(fixture: &Fixture, job_id: &str) -> Result<Operation, Status> {
    let name = format!("projects/p/jobs/{job_id}");
    let request = pb::RunJobRequest { name, ..Default::default() };
    within("run", fixture.jobs().run_job(request)).await.map(tonic::Response::into_inner)
}

/// Waits for the next lease.
async fn next_lease(fixture: &Fixture) -> pb::Lease {
    let request = pb::LeaseOperationsRequest { wait_duration: seconds(30), ..leasing("q") };
    let mut leases = fixture.leasing(request).end().await.granted();
    assert_eq!(leases.len(), 1);
    leases.remove(0)
}

async fn each_run_has_the_callbacks_of_its_job(fixture: &Fixture) {
    let given = [
        pb::Callback {
            uri: "https://example.com/{$response.body#/name}".to_owned(),
            events: vec![Event::Failed.into()],
            headers: [("Authorization".to_owned(), "Bearer secret".to_owned())].into(),
            ..Default::default()
        },
        pb::Callback { endpoint: "webhookEndpoints/e".to_owned(), ..Default::default() },
    ];
    let options = pb::OperationOptions { callbacks: given.to_vec(), ..Default::default() };
    let created = create(fixture, "nightly", with(options)).await.granted();
    let callbacks_of = |template: Option<pb::JobTemplate>| {
        template.and_then(|it| it.options).expect("options").callbacks
    };
    let shown = callbacks_of(created.template);
    assert_eq!((&shown[0].uri, &shown[1].endpoint), (&given[0].uri, &given[1].endpoint));
    assert_eq!(shown[0].headers["Authorization"], "", "values are secret");

    let operation = run(fixture, "nightly").await.granted();
    let stored = fixture.record(&operation.name).await.options.expect("options").callbacks;
    assert_eq!(stored[0].uri, format!("https://example.com/{}", operation.name));
    assert_eq!(stored[0].events().collect::<Vec<_>>(), [Event::Failed]);
    assert_eq!(stored[1].events().collect::<Vec<_>>(), [Event::Done]);
    let execution = executions(fixture, "").await.granted().remove(0);
    assert_eq!(callbacks_of(execution.template)[0].uri, given[0].uri);
}

async fn an_option_that_runs_cannot_have_is_refused_by_its_field(fixture: &Fixture) {
    let callback = |uri: &str| pb::Callback { uri: uri.to_owned(), ..Default::default() };
    for (uri, reason, position) in [
        ("https://x/{$request.body#/request/none}", "INVALID_ARGUMENT", Some("11")),
        ("https://x/{$request.header.x-url}", "INVALID_ARGUMENT", Some("11")),
        ("https://x/{", "INVALID_ARGUMENT", Some("10")),
        ("ftp://x/", "CALLBACK_URI_REJECTED", None),
    ] {
        let callbacks = vec![callback(uri)];
        let options = pb::OperationOptions { callbacks, ..Default::default() };
        let refused = create(fixture, "nightly", with(options)).await;
        let message = refused.as_ref().err().map(|status| status.message().to_owned());
        let metadata = refused.refused_field(reason, "job.template.options.callbacks[0].uri");
        assert_eq!(metadata.get("position").map(String::as_str), position, "{uri}");
        let message = message.unwrap_or_default();
        assert!(message.starts_with("job.template.options.callbacks[0].uri"), "{message}");
    }
    let endpoint = "projects/other/webhookEndpoints/e".to_owned();
    let callbacks = vec![pb::Callback { endpoint, ..Default::default() }];
    let options = pb::OperationOptions { callbacks, ..Default::default() };
    let refused = create(fixture, "nightly", with(options)).await;
    refused.refused_field("INVALID_ARGUMENT", "job.template.options.callbacks[0].endpoint");
    let refused = create(fixture, "nightly", with(keyed(Policy::Reject))).await;
    refused.refused_field("INVALID_ARGUMENT", "job.template.options.concurrency.policy");
    let request = pb::GetJobRequest { name: "projects/p/jobs/nightly".to_owned() };
    let missing = within("get", fixture.jobs().get_job(request)).await;
    missing.refused(Code::NotFound, "JOB_NOT_FOUND");
}

fn keyed(policy: Policy) -> pb::OperationOptions {
    let concurrency = pb::Concurrency { key: "k".to_owned(), limit: 1, policy: policy.into() };
    pb::OperationOptions { concurrency: Some(concurrency), ..Default::default() }
}

async fn a_call_that_is_sent_again_changes_a_job_once(fixture: &Fixture) {
    create(fixture, "nightly", pb::Job { schedule: Some(every(10)), ..job() }).await.granted();
    let name = "projects/p/jobs/nightly".to_owned();
    let request_id = |id: &str| id.to_owned();
    let update = |display_name: &str| pb::UpdateJobRequest {
        job: Some(pb::Job {
            name: name.clone(),
            display_name: display_name.to_owned(),
            ..Default::default()
        }),
        request_id: request_id("u"),
        ..Default::default()
    };
    let pause = pb::PauseJobRequest {
        name: name.clone(),
        request_id: request_id("p"),
        ..Default::default()
    };
    let resume = pb::ResumeJobRequest {
        name: name.clone(),
        request_id: request_id("r"),
        ..Default::default()
    };

    within("update", fixture.jobs().update_job(update("Other"))).await.granted();
    within("pause", fixture.jobs().pause_job(pause.clone())).await.granted();
    within("resume", fixture.jobs().resume_job(resume.clone())).await.granted();
    let there = get(fixture).await;
    assert_eq!((&*there.display_name, there.paused), ("Other", false));
    // Repeats of calls that have done their work, in any order.
    let repeated = within("pause", fixture.jobs().pause_job(pause.clone())).await.granted();
    assert_eq!(repeated.into_inner(), there);
    let repeated = within("update", fixture.jobs().update_job(update("Other"))).await.granted();
    assert_eq!(repeated.into_inner(), there);
    let repeated = within("resume", fixture.jobs().resume_job(resume)).await.granted();
    assert_eq!(repeated.into_inner(), there);
    let reused = within("update", fixture.jobs().update_job(update("Third"))).await;
    reused.refused_field("REQUEST_ID_REUSED", "request_id");
    let reused = pb::PauseJobRequest { request_id: request_id("r"), ..pause };
    let reused = within("pause", fixture.jobs().pause_job(reused)).await;
    reused.refused_field("REQUEST_ID_REUSED", "request_id");
    assert_eq!(get(fixture).await, there);
}

async fn runs_age_as_their_queue_says(fixture: &Fixture) {
    // A step of priority is worth ten hours here, and a minute in other queues.
    let queue = pb::Queue { aging_interval: seconds(36_000), ..queues::queue("queues/q") };
    queues::update(fixture, queue, &["aging_interval"]).await.granted();
    let later = pb::OperationOptions { priority: 1, ..Default::default() };
    create(fixture, "plain", job()).await.granted();
    create(fixture, "first", with(later)).await.granted();
    run(fixture, "plain").await.granted();
    fixture.let_pass(Duration::from_hours(5));
    let preferred = run(fixture, "first").await.granted();
    assert_eq!(fixture.lease("q").await.operation, preferred.name);
}

async fn a_paused_queue_holds_the_runs_of_its_jobs(fixture: &Fixture) {
    create(fixture, "nightly", pb::Job { schedule: Some(every(10)), ..job() }).await.granted();
    queues::pause(fixture, "queues/q").await.granted();
    fixture.pass(Duration::from_mins(10)).await;
    fixture.expect_no_lease("q").await;
    let waiting = executions(fixture, "").await.granted();
    assert_eq!(waiting.iter().map(pb::Execution::state).collect::<Vec<_>>(), [State::Pending]);
    // The one that waits is not over, so that the next tick is skipped, and a caller refused.
    fixture.pass(Duration::from_mins(10)).await;
    assert_eq!(get(fixture).await.skipped_tick_count, 1);
    run(fixture, "nightly").await.refused(Code::FailedPrecondition, "INVALID_STATE");
    queues::resume(fixture, "queues/q").await.granted();
    assert_eq!(work(fixture).await.operation, waiting[0].operation);
    fixture.pass(Duration::from_mins(10)).await;
    work(fixture).await;
    assert_eq!(executions(fixture, "done = true").await.granted().len(), 2);
}

async fn a_concurrency_key_holds_over_the_runs_of_all_jobs(fixture: &Fixture) {
    for id in ["one", "two"] {
        let allow = pb::job::OverlapPolicy::Allow.into();
        let job = pb::Job { overlap_policy: allow, ..with(keyed(Policy::Queue)) };
        create(fixture, id, job).await.granted();
    }
    let mut names = Vec::new();
    for id in ["one", "two", "one"] {
        names.push(run(fixture, id).await.granted().name);
        fixture.let_pass(Duration::from_millis(1));
    }
    let started = pb::StartOperationRequest {
        parent: "projects/p".to_owned(),
        ..start_with("q", keyed(Policy::Queue))
    };
    names.push(fixture.start(started).await.granted().name);
    for name in names {
        let lease = next_lease(fixture).await;
        assert_eq!(lease.operation, name, "one after the other, in their order");
        fixture.expect_no_lease("q").await;
        let response = Some(any("acme.Reported", b""));
        let done = pb::CompleteOperationRequest { response, ..completion(&lease) };
        fixture.complete(done).await.granted();
    }
}

async fn a_tenant_that_starts_too_fast_is_refused_runs_and_reruns(fixture: &Fixture) {
    create(fixture, "nightly", job()).await.granted();
    let limits = TenantLimits { starts_per_second: 2, ..TenantLimits::default() };
    let limited = fixture.limited_by(limits).await;
    let operation = run(&limited, "nightly").await.granted();
    work(&limited).await;
    let rerun = pb::RerunOperationRequest { name: operation.name.clone(), ..Default::default() };
    within("rerun", limited.callers().rerun_operation(rerun.clone())).await.granted();
    let refused = run(&limited, "nightly").await;
    refused.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    let refused = within("rerun", limited.callers().rerun_operation(rerun)).await;
    refused.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    limited.stop().await;
}

fn told(count: usize) -> pb::OperationOptions {
    let callback = pb::Callback { uri: "https://example.com/".to_owned(), ..Default::default() };
    pb::OperationOptions { callbacks: vec![callback; count], ..Default::default() }
}

async fn callbacks_of_runs_and_of_reruns_count_for_their_tenant(fixture: &Fixture) {
    let limits = TenantLimits { callbacks_per_second: 2, ..TenantLimits::default() };
    create(fixture, "told", with(told(2))).await.granted();
    create(fixture, "quiet", job()).await.granted();
    let parent = "projects/p".to_owned();
    let request = pb::StartOperationRequest { parent, ..start_with("other", told(2)) };
    let done = fixture.running(request).await;
    fixture.complete(completion(&done)).await.granted();
    let rerun = async |on: &Fixture| {
        let request =
            pb::RerunOperationRequest { name: done.operation.clone(), ..Default::default() };
        within("rerun", on.callers().rerun_operation(request)).await
    };

    let limited = fixture.limited_by(limits).await;
    run(&limited, "told").await.granted();
    run(&limited, "told").await.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    rerun(&limited).await.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    run(&limited, "quiet").await.granted();
    limited.let_pass(Duration::from_secs(1));
    rerun(&limited).await.granted();
    run(&limited, "told").await.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    limited.stop().await;
}

async fn callbacks_of_scheduled_runs_leave_less_to_callers(fixture: &Fixture) {
    let limits = TenantLimits { callbacks_per_second: 2, ..TenantLimits::default() };
    let limited = fixture.limited_by(limits).await;
    let scheduled = pb::Job { schedule: Some(every(1)), ..with(told(1)) };
    create(&limited, "told", scheduled).await.granted();
    let start = |count| pb::StartOperationRequest {
        parent: "projects/p".to_owned(),
        ..start_with("q", told(count))
    };
    limited.pass(Duration::from_mins(1)).await;
    limited.lease("q").await;
    limited.start(start(2)).await.refused(Code::ResourceExhausted, "LIMIT_EXCEEDED");
    limited.start(start(1)).await.granted();
    limited.stop().await;
}
