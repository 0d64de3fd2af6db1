//! Jobs: created, run by hand and by their schedules, and their executions.

use prost::Message;
use tonic::{Request, Status};

use crate::support::*;

scenarios! {
    over every face;
    the_operation_of_a_run_resolves_to_a_run_job_response,
    a_schedule_runs_its_job_and_a_pause_stops_it,
    a_schedule_that_is_wrong_is_refused_by_its_field_and_place,
    a_setting_that_is_wrong_is_refused_by_its_field,
    an_update_changes_what_its_mask_names,
    fields_of_schedules_and_options_are_changed_one_by_one,
    a_job_with_runs_is_deleted_only_by_force,
    executions_are_listed_filtered_and_deleted,
    a_backfill_runs_the_ticks_of_a_past_range,
    jobs_are_listed_by_parent_and_by_pattern,
}

const NAME: &str = "projects/p/jobs/nightly";

pub(crate) fn job() -> pb::Job {
    pb::Job {
        display_name: "Nightly".to_owned(),
        template: Some(pb::JobTemplate {
            queue: "q".to_owned(),
            method: "report".to_owned(),
            request: Some(any("acme.Report", b"\x08\x01")),
            response_type: "acme.Reported".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn every(minutes: u64) -> pb::Schedule {
    let interval = pb::schedule::Timing::Interval(seconds(minutes * 60).expect("a duration"));
    pb::Schedule { timing: Some(interval), ..Default::default() }
}

fn cron(text: &str) -> pb::Schedule {
    pb::Schedule { timing: Some(pb::schedule::Timing::Cron(text.to_owned())), ..Default::default() }
}

pub(crate) async fn create(fixture: &Fixture, job: pb::Job) -> Result<pb::Job, Status> {
    let request = pb::CreateJobRequest {
        parent: "projects/p".to_owned(),
        job_id: "nightly".to_owned(),
        job: Some(job),
        ..Default::default()
    };
    let created = within("create", fixture.jobs().create_job(request)).await;
    created.map(tonic::Response::into_inner)
}

pub(crate) async fn get(fixture: &Fixture) -> pb::Job {
    let request = pb::GetJobRequest { name: NAME.to_owned() };
    within("get", fixture.jobs().get_job(request)).await.granted().into_inner()
}

async fn run(fixture: &Fixture, request_id: &str) -> Result<(Operation, bool), Status> {
    let request = pb::RunJobRequest {
        name: NAME.to_owned(),
        request_id: request_id.to_owned(),
        ..Default::default()
    };
    let answer = within("run", fixture.jobs().run_job(Request::new(request))).await?;
    let replayed = answer.metadata().contains_key("longhaul-replayed");
    Ok((answer.into_inner(), replayed))
}

pub(crate) async fn executions(
    fixture: &Fixture,
    filter: &str,
) -> Result<Vec<pb::Execution>, Status> {
    let request = pb::ListExecutionsRequest {
        parent: NAME.to_owned(),
        filter: filter.to_owned(),
        ..Default::default()
    };
    let page = within("list", fixture.jobs().list_executions(request)).await?;
    Ok(page.into_inner().executions)
}

/// Leases the next operation, and completes it as declared.
pub(crate) async fn work(fixture: &Fixture) -> pb::Lease {
    let lease = fixture.lease("q").await;
    let response = Some(any("acme.Reported", b"\x08\x02"));
    let done = pb::CompleteOperationRequest { response, ..completion(&lease) };
    fixture.complete(done).await.granted();
    lease
}

fn metadata(operation: &Operation) -> pb::RunJobMetadata {
    let any = operation.metadata.as_ref().expect("metadata");
    assert_eq!(any.type_url, "type.googleapis.com/longhaul.v1.RunJobMetadata");
    pb::RunJobMetadata::decode(&any.value[..]).expect("the metadata of a run")
}

async fn the_operation_of_a_run_resolves_to_a_run_job_response(fixture: &Fixture) {
    let created = create(fixture, job()).await.granted();
    assert_eq!((&*created.name, &*created.display_name), (NAME, "Nightly"));
    assert!(created.etag.starts_with('"') && created.next_run_time.is_none());
    let again = create(fixture, job()).await;
    again.refused(Code::AlreadyExists, "JOB_ALREADY_EXISTS");

    let (operation, replayed) = run(fixture, "r").await.granted();
    assert!(!operation.done && !replayed);
    let (same, replayed) = run(fixture, "r").await.granted();
    assert!(same.name == operation.name && replayed);
    run(fixture, "other").await.refused(Code::FailedPrecondition, "INVALID_STATE");
    let of = metadata(&operation);
    assert_eq!((&*of.job, of.trigger()), (NAME, pb::execution::Trigger::Manual));
    assert_eq!(of.operation.expect("the server's own").state(), State::Pending);
    let record = fixture.record(&operation.name).await;
    assert_eq!((&*record.job, &*record.execution), (NAME, &*of.execution));
    assert_eq!(get(fixture).await.active_executions, std::slice::from_ref(&of.execution));

    let lease = work(fixture).await;
    assert_eq!(lease.request, Some(any("acme.Report", b"\x08\x01")));
    let done = fixture.get(&operation.name).await.granted();
    let response = response_of(&done);
    assert_eq!(response.type_url, "type.googleapis.com/longhaul.v1.RunJobResponse");
    let response = pb::RunJobResponse::decode(&response.value[..]).expect("the response of a run");
    assert_eq!(response.execution, of.execution);
    assert_eq!(response.response, Some(any("acme.Reported", b"\x08\x02")));

    let request = pb::GetExecutionRequest { name: of.execution.clone() };
    let found = within("get", fixture.jobs().get_execution(request)).await.granted().into_inner();
    assert_eq!((found.state(), found.attempt_count), (State::Succeeded, 1));
    assert_eq!(found.operation, operation.name);
    let result = pb::execution::Result::Response(any("acme.Reported", b"\x08\x02"));
    assert_eq!(found.result, Some(result));
    let template = found.template.expect("a template");
    assert_eq!(template.request, Some(any("acme.Report", b"\x08\x01")));
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(get(fixture).await.active_executions, [""; 0]);
}

async fn a_schedule_runs_its_job_and_a_pause_stops_it(fixture: &Fixture) {
    let scheduled = pb::Job { schedule: Some(every(10)), ..job() };
    let created = create(fixture, scheduled).await.granted();
    assert_at(created.next_run_time, fixture.at(Duration::from_mins(10)));
    let request =
        pb::ListUpcomingRunsRequest { name: NAME.to_owned(), page_size: 2, ..Default::default() };
    let upcoming = within("list", fixture.jobs().list_upcoming_runs(request.clone())).await;
    let upcoming = upcoming.granted().into_inner().upcoming_runs;
    assert_eq!(upcoming.len(), 2);
    assert_at(upcoming[1].run_time, fixture.at(Duration::from_mins(20)));

    fixture.pass(Duration::from_mins(10)).await;
    let lease = work(fixture).await;
    let of = metadata(&fixture.get(&lease.operation).await.granted());
    assert_eq!(of.trigger(), pb::execution::Trigger::Schedule);
    assert_eq!(of.tick_time, upcoming[0].tick_time);
    fixture.pass(Duration::from_mins(10)).await;
    work(fixture).await;

    let pause = pb::PauseJobRequest { name: NAME.to_owned(), ..Default::default() };
    let paused = within("pause", fixture.jobs().pause_job(pause)).await.granted().into_inner();
    assert!(paused.paused && paused.next_run_time.is_none());
    fixture.pass(Duration::from_mins(30)).await;
    fixture.expect_no_lease("q").await;
    let none = within("list", fixture.jobs().list_upcoming_runs(request)).await.granted();
    assert_eq!(none.into_inner().upcoming_runs, []);
    let etag = paused.etag.clone();
    let resume = pb::ResumeJobRequest { name: NAME.to_owned(), etag, ..Default::default() };
    let resumed = within("resume", fixture.jobs().resume_job(resume.clone())).await.granted();
    assert!(!resumed.into_inner().paused);
    let stale = within("resume", fixture.jobs().resume_job(resume)).await;
    stale.refused(Code::Aborted, "ETAG_MISMATCH");
    fixture.pass(Duration::from_mins(10)).await;
    work(fixture).await;
    assert_eq!(executions(fixture, "").await.granted().len(), 3);
}

async fn a_schedule_that_is_wrong_is_refused_by_its_field_and_place(fixture: &Fixture) {
    let with = |schedule: pb::Schedule| pb::Job { schedule: Some(schedule), ..job() };
    let zone = |zone: &str| pb::Schedule { time_zone: zone.to_owned(), ..cron("0 0 * * *") };
    let calendar = |days: Vec<i32>| pb::Schedule {
        timing: Some(pb::schedule::Timing::Calendar(pb::Calendar {
            months: vec![2],
            days,
            ..Default::default()
        })),
        ..Default::default()
    };
    let long = prost_types::Duration { seconds: 90_000, nanos: 0 };
    for (field, schedule) in [
        ("job.schedule", pb::Schedule::default()),
        ("job.schedule.cron", cron("0 0 30 2 *")),
        ("job.schedule.cron", cron(&"1".repeat(5_000))),
        ("job.schedule.time_zone", zone("Europe/Berln")),
        ("job.schedule.calendar", calendar(vec![30])),
        ("job.schedule.calendar", calendar(vec![0])),
        ("job.schedule.interval", every(0)),
        ("job.schedule.jitter", pb::Schedule { jitter: Some(long), ..every(1) }),
        (
            "job.schedule.end_time",
            pb::Schedule {
                start_time: Some(fixture.at(Duration::from_secs(2))),
                end_time: Some(fixture.at(Duration::from_secs(1))),
                ..every(1)
            },
        ),
    ] {
        create(fixture, with(schedule)).await.refused_field("INVALID_ARGUMENT", field);
    }
    let wrong = create(fixture, with(cron("0 25 * * *"))).await;
    let metadata = wrong.refused_field("INVALID_ARGUMENT", "job.schedule.cron");
    assert_eq!(metadata["position"], "2");
    for name in ["jobs", "projects/p/jobs/X", "jobs/a/jobs/b"] {
        let request = pb::GetJobRequest { name: name.to_owned() };
        let refused = within("get", fixture.jobs().get_job(request)).await;
        refused.refused_field("INVALID_NAME", "name");
    }
    let request = pb::ListJobsRequest { parent: "projects/p".to_owned(), ..Default::default() };
    let page = within("list", fixture.jobs().list_jobs(request)).await.granted().into_inner();
    assert_eq!(page.jobs, [], "nothing was written");
}

async fn a_setting_that_is_wrong_is_refused_by_its_field(fixture: &Fixture) {
    let template = |change: fn(&mut pb::JobTemplate)| {
        let mut job = job();
        change(job.template.as_mut().expect("a template"));
        job
    };
    let time = prost_types::Timestamp { seconds: 9_000_000_000, nanos: 0 };
    let options = pb::OperationOptions { deadline_time: Some(time), ..Default::default() };
    let mut fixed = job();
    fixed.template.as_mut().expect("a template").options = Some(options);
    let refused = create(fixture, fixed).await;
    refused.refused_field("INVALID_ARGUMENT", "job.template.options.deadline_time");
    let refused = create(fixture, template(|it| "a/b".clone_into(&mut it.queue))).await;
    refused.refused_field("INVALID_ARGUMENT", "job.template.queue");
    let refused = create(fixture, pb::Job { overlap_policy: 9, ..job() }).await;
    refused.refused_field("INVALID_ARGUMENT", "job.overlap_policy");
    let refused = create(fixture, pb::Job { history_limit: -1, ..job() }).await;
    refused.refused_field("INVALID_ARGUMENT", "job.history_limit");
}

async fn update(
    fixture: &Fixture,
    job: pb::Job,
    paths: &[&str],
    change: fn(&mut pb::UpdateJobRequest),
) -> Result<pb::Job, Status> {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    let mut request = pb::UpdateJobRequest {
        job: Some(pb::Job { name: NAME.to_owned(), ..job }),
        update_mask: (!paths.is_empty()).then_some(prost_types::FieldMask { paths }),
        ..Default::default()
    };
    change(&mut request);
    let updated = within("update", fixture.jobs().update_job(request)).await;
    updated.map(tonic::Response::into_inner)
}

async fn an_update_changes_what_its_mask_names(fixture: &Fixture) {
    let missing = update(fixture, job(), &[], |_| ()).await;
    missing.refused(Code::NotFound, "JOB_NOT_FOUND");
    let created = update(fixture, job(), &[], |it| it.allow_missing = true).await.granted();
    assert_eq!((&*created.name, &*created.display_name), (NAME, "Nightly"));

    let other = pb::Job {
        display_name: "Other".to_owned(),
        template: Some(pb::JobTemplate { method: "other".to_owned(), ..Default::default() }),
        history_limit: 7,
        ..Default::default()
    };
    let updated =
        update(fixture, other.clone(), &["history_limit", "template.method"], |_| ()).await;
    let updated = updated.granted();
    let template = updated.template.clone().expect("a template");
    assert_eq!((&*updated.display_name, updated.history_limit), ("Nightly", 7));
    assert_eq!((&*template.method, &*template.queue), ("other", "queues/q"));
    assert_eq!(template.request, Some(any("acme.Report", b"\x08\x01")));
    assert_ne!(updated.etag, created.etag);

    let checked = update(fixture, other.clone(), &["*"], |it| it.validate_only = true).await;
    assert_eq!(checked.granted().display_name, "Other");
    let stale = pb::Job { etag: created.etag, ..other.clone() };
    update(fixture, stale, &["*"], |_| ()).await.refused(Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(get(fixture).await, updated);
    let refused = update(fixture, other.clone(), &["uid"], |_| ()).await;
    refused.refused_field("INVALID_ARGUMENT", "update_mask");
    let refused = update(fixture, other.clone(), &["template.options.expire_time"], |_| ()).await;
    refused.refused_field("INVALID_ARGUMENT", "update_mask");
    // Without a mask, the fields that are set.
    let named = pb::Job { display_name: "Named".to_owned(), ..Default::default() };
    let updated = update(fixture, named, &[], |_| ()).await.granted();
    assert_eq!((&*updated.display_name, updated.history_limit), ("Named", 7));
    let all = update(fixture, other, &["*"], |_| ()).await.granted();
    assert_eq!(all.template.expect("a template").request, None);
}

async fn fields_of_schedules_and_options_are_changed_one_by_one(fixture: &Fixture) {
    let options = pb::OperationOptions {
        labels: [("team".to_owned(), "film".to_owned())].into(),
        attempt_timeout: seconds(60),
        ..Default::default()
    };
    let schedule = pb::Schedule { time_zone: "Europe/Berlin".to_owned(), ..cron("0 9 * * *") };
    let mut wanted = pb::Job { schedule: Some(schedule.clone()), ..job() };
    wanted.template.as_mut().expect("a template").options = Some(options.clone());
    create(fixture, wanted.clone()).await.granted();

    let other = pb::Job { schedule: Some(cron("0 10 * * *")), ..Default::default() };
    let updated = update(fixture, other, &["schedule.cron"], |_| ()).await.granted();
    let zone = "Europe/Berlin".to_owned();
    let expected = pb::Schedule { time_zone: zone, ..cron("0 10 * * *") };
    assert_eq!(updated.schedule, Some(expected.clone()), "its zone is as before");
    let jitter = pb::Schedule { jitter: seconds(5), ..Default::default() };
    let jitter = pb::Job { schedule: Some(jitter), ..Default::default() };
    let updated = update(fixture, jitter.clone(), &["schedule.jitter"], |_| ()).await.granted();
    assert_eq!(updated.schedule, Some(pb::Schedule { jitter: seconds(5), ..expected }));

    let retries = pb::RetryPolicy { max_attempts: 7, ..Default::default() };
    let retries =
        pb::OperationOptions { retry_policy: Some(retries.clone()), ..Default::default() };
    let template = pb::JobTemplate { options: Some(retries.clone()), ..Default::default() };
    let retries_alone = pb::Job { template: Some(template), ..Default::default() };
    let mask = ["template.options.retry_policy"];
    let updated = update(fixture, retries_alone, &mask, |_| ()).await.granted();
    let updated = updated.template.expect("a template").options;
    assert_eq!(
        updated,
        Some(pb::OperationOptions { retry_policy: retries.retry_policy, ..options })
    );

    // What is left must be a schedule.
    let none = pb::Job { schedule: Some(pb::Schedule::default()), ..Default::default() };
    let refused = update(fixture, none.clone(), &["schedule.cron"], |_| ()).await;
    refused.refused_field("INVALID_ARGUMENT", "job.schedule");
    update(fixture, none, &["schedule.time_zone"], |_| ()).await.granted();
    update(fixture, pb::Job::default(), &["schedule"], |_| ()).await.granted();
    let refused = update(fixture, jitter, &["schedule.jitter"], |_| ()).await;
    refused.refused_field("INVALID_ARGUMENT", "job.schedule");
    assert_eq!(get(fixture).await.schedule, None);
}

async fn a_job_with_runs_is_deleted_only_by_force(fixture: &Fixture) {
    create(fixture, job()).await.granted();
    let (operation, _) = run(fixture, "r").await.granted();
    let request = pb::DeleteJobRequest { name: NAME.to_owned(), ..Default::default() };
    let refused = within("delete", fixture.jobs().delete_job(request.clone())).await;
    refused.refused(Code::FailedPrecondition, "INVALID_STATE");
    let forced = pb::DeleteJobRequest { force: true, ..request };
    within("delete", fixture.jobs().delete_job(forced.clone())).await.granted();
    assert!(fixture.get(&operation.name).await.granted().done, "its run is cancelled");
    let gone = within("delete", fixture.jobs().delete_job(forced)).await;
    gone.refused(Code::NotFound, "JOB_NOT_FOUND");
    run(fixture, "r").await.refused(Code::NotFound, "JOB_NOT_FOUND");
    for _ in 0..3 {
        fixture.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(executions(fixture, "").await.granted(), []);
    create(fixture, job()).await.granted();
}

async fn executions_are_listed_filtered_and_deleted(fixture: &Fixture) {
    create(fixture, job()).await.granted();
    for number in 0..3 {
        run(fixture, &number.to_string()).await.granted();
        if number == 1 {
            let lease = fixture.lease("q").await;
            fixture.fail(failure(&lease, Code::InvalidArgument)).await.granted();
        } else {
            work(fixture).await;
        }
        fixture.pass(Duration::from_secs(1)).await;
    }
    let all = executions(fixture, "").await.granted();
    let states: Vec<State> = all.iter().map(pb::Execution::state).collect();
    assert_eq!(states, [State::Succeeded, State::Failed, State::Succeeded], "newest first");
    let failed = executions(fixture, "done = true AND error.code = 3").await.granted();
    assert_eq!(failed.len(), 1);
    assert!(matches!(failed[0].result, Some(pb::execution::Result::Error(_))));
    let refused = executions(fixture, "response.x = 1").await;
    refused.refused(Code::InvalidArgument, "INVALID_FILTER");
    let page = |order_by: &str, page_size, page_token: &str| pb::ListExecutionsRequest {
        parent: NAME.to_owned(),
        order_by: order_by.to_owned(),
        page_size,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let first = within("list", fixture.jobs().list_executions(page("create_time", 2, ""))).await;
    let first = first.granted().into_inner();
    assert_eq!(first.executions, [all[2].clone(), all[1].clone()]);
    let rest = page("create_time", 2, &first.next_page_token);
    let rest = within("list", fixture.jobs().list_executions(rest)).await.granted().into_inner();
    assert_eq!((rest.executions, rest.next_page_token), (vec![all[0].clone()], String::new()));
    let other = page("", 2, &first.next_page_token);
    let refused = within("list", fixture.jobs().list_executions(other)).await;
    refused.refused_field("INVALID_PAGE_TOKEN", "page_token");

    let request = pb::DeleteExecutionRequest { name: all[1].name.clone() };
    within("delete", fixture.jobs().delete_execution(request.clone())).await.granted();
    let gone = within("delete", fixture.jobs().delete_execution(request)).await;
    gone.refused(Code::NotFound, "EXECUTION_NOT_FOUND");
    assert_eq!(executions(fixture, "").await.granted().len(), 2);
}

async fn a_backfill_runs_the_ticks_of_a_past_range(fixture: &Fixture) {
    let start_time = Some(fixture.at(Duration::ZERO));
    create(fixture, pb::Job { schedule: Some(every(1)), ..job() }).await.granted();
    let pause = pb::PauseJobRequest { name: NAME.to_owned(), ..Default::default() };
    within("pause", fixture.jobs().pause_job(pause)).await.granted();
    fixture.pass(Duration::from_mins(4)).await;
    let request = pb::BackfillJobRequest {
        name: NAME.to_owned(),
        start_time,
        end_time: Some(fixture.at(Duration::ZERO)),
        validate_only: true,
        request_id: "b".to_owned(),
    };
    let count = within("count", fixture.jobs().backfill_job(request.clone())).await.granted();
    let count = count.into_inner().tick_count;
    assert!((3..=4).contains(&count), "{count}");
    fixture.expect_no_lease("q").await;
    let request = pb::BackfillJobRequest { validate_only: false, ..request };
    within("backfill", fixture.jobs().backfill_job(request.clone())).await.granted();
    within("backfill", fixture.jobs().backfill_job(request.clone())).await.granted();
    for _ in 0..count {
        let lease = work(fixture).await;
        let of = metadata(&fixture.get(&lease.operation).await.granted());
        assert_eq!(of.trigger(), pb::execution::Trigger::Backfill);
        fixture.pass(Duration::from_secs(1)).await;
    }
    fixture.expect_no_lease("q").await;
    assert!(!get(fixture).await.backfilling);
    let none = pb::BackfillJobRequest { end_time: None, ..request.clone() };
    let refused = within("backfill", fixture.jobs().backfill_job(none)).await;
    refused.refused_field("INVALID_ARGUMENT", "end_time");
    let future = fixture.at(Duration::from_hours(1));
    let future = pb::BackfillJobRequest { end_time: Some(future), ..request };
    let refused = within("backfill", fixture.jobs().backfill_job(future)).await;
    refused.refused_field("INVALID_ARGUMENT", "end_time");
}

async fn jobs_are_listed_by_parent_and_by_pattern(fixture: &Fixture) {
    let parents = ["", "projects/a", "projects/a/locations/x", "projects/b", "shops/s"];
    for parent in parents {
        for job_id in ["one", "two"] {
            let request = pb::CreateJobRequest {
                parent: parent.to_owned(),
                job_id: job_id.to_owned(),
                job: Some(job()),
                ..Default::default()
            };
            within("create", fixture.jobs().create_job(request)).await.granted();
            fixture.let_pass(Duration::from_millis(1));
        }
    }
    let list = async |parent: &str, page_size| {
        let (mut names, mut page_token) = (Vec::new(), String::new());
        loop {
            let parent = parent.to_owned();
            let request = pb::ListJobsRequest { parent, page_size, page_token };
            let page = within("list", fixture.jobs().list_jobs(request)).await.granted();
            let page = page.into_inner();
            assert!(page_size == 0 || page.jobs.len() <= page_size as usize);
            names.extend(page.jobs.into_iter().map(|job| job.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return names;
            }
        }
    };
    let of = |parent: &str| {
        let prefix = if parent.is_empty() { String::new() } else { format!("{parent}/") };
        ["one", "two"].map(|id| format!("{prefix}jobs/{id}"))
    };
    let of_all = |parents: &[&str]| parents.iter().flat_map(|parent| of(parent)).collect();
    for page_size in [0, 1, 3] {
        let all: Vec<String> = of_all(&parents);
        assert_eq!(list("-", page_size).await, all);
        let projects: Vec<String> = of_all(&["projects/a", "projects/b"]);
        assert_eq!(list("projects/-", page_size).await, projects);
        let places: Vec<String> = of_all(&["projects/a/locations/x"]);
        assert_eq!(list("projects/-/locations/-", page_size).await, places);
        assert_eq!(list("projects/a", page_size).await, of("projects/a"));
        assert_eq!(list("", page_size).await, of(""));
        assert_eq!(list("towns/-", page_size).await, [""; 0]);
    }
    let wrong = pb::ListJobsRequest { parent: "projects".to_owned(), ..Default::default() };
    let refused = within("list", fixture.jobs().list_jobs(wrong)).await;
    refused.refused_field("INVALID_NAME", "parent");
}
