//! No field of a request is ignored: each has an effect or is refused, and each method works.

use std::collections::{BTreeMap, BTreeSet};

use ::http::uri::PathAndQuery;
use longhaul::proto::DESCRIPTORS;
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor, ServiceDescriptor};
use tonic::Request;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use crate::support::*;

scenarios! {
    over every face;
    a_field_is_refused_where_it_would_have_no_effect,
    each_method_that_is_served_works,
}

fn services() -> Vec<ServiceDescriptor> {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("definitions");
    let ours = |service: &ServiceDescriptor| {
        ["longhaul.v1", "google.longrunning"].contains(&service.package_name())
    };
    pool.services().filter(ours).collect()
}

#[test]
fn each_field_of_each_request_is_in_the_table() {
    let table: BTreeMap<&str, BTreeSet<&str>> = FIELDS
        .iter()
        .map(|(message, fields)| (*message, fields.split_whitespace().collect()))
        .collect();
    assert_eq!(table.len(), FIELDS.len(), "a message is in the table twice");
    let mut seen = BTreeMap::new();
    for method in services().iter().flat_map(ServiceDescriptor::methods) {
        collect(&method.input(), &mut seen);
    }
    for (message, fields) in &seen {
        let known = table.get(&**message).cloned().unwrap_or_default();
        let fields: BTreeSet<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(
            fields, known,
            "of {message}: see to it that a new field has an effect or is refused"
        );
    }
    let stale: Vec<_> = table.keys().filter(|message| !seen.contains_key(**message)).collect();
    assert!(stale.is_empty(), "of no request any more: {stale:?}");
}

/// All fields of incoming messages, including those of payloads.
fn collect(message: &MessageDescriptor, seen: &mut BTreeMap<String, BTreeSet<String>>) {
    let name = message.full_name().to_owned();
    let foreign =
        ["google.protobuf.", "google.rpc."].iter().any(|package| name.starts_with(package));
    if foreign || message.is_map_entry() || seen.contains_key(&name) {
        return;
    }
    let fields = message.fields().map(|field| field.name().to_owned()).collect();
    seen.insert(name, fields);
    for field in message.fields() {
        if let Kind::Message(inner) = field.kind() {
            collect(&inner, seen);
        }
    }
}

async fn a_field_is_refused_where_it_would_have_no_effect(fixture: &Fixture) {
    let only_checked = pb::StartOperationRequest { validate_only: true, ..start("q") };
    let leased = pb::StartLeasedOperationRequest {
        start: Some(only_checked),
        ..pb::StartLeasedOperationRequest::default()
    };
    let refusal = fixture.workers().start_leased_operation(leased).await;
    refusal.refused_field("UNIMPLEMENTED", "start.validate_only");
    assert!(fixture.list("", 10, "").await.granted().operations.is_empty());
}

async fn each_method_that_is_served_works(fixture: &Fixture) {
    for service in services() {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            let path = PathAndQuery::try_from(path).expect("a path");
            let mut grpc = Grpc::new(fixture.channel.clone());
            grpc.ready().await.expect("a connection");
            // An empty message is one of every type.
            let codec = ProstCodec::<(), ()>::default();
            let answer = match grpc.server_streaming(Request::new(()), path, codec).await {
                Ok(answer) => answer.into_inner().message().await.map(drop),
                Err(status) => Err(status),
            };
            let code = answer.err().map_or(Code::Ok, |status| status.code());
            assert_ne!(code, Code::Unimplemented, "{}", method.full_name());
        }
    }
}

/// The fields of each incoming message: output-only ones (`update_time` of progress, `create_time` of a resource, all of a type set
/// but its descriptors, the state and the numbers of a queue, what only the server sets of an endpoint, all of a token but its
/// grants and its end), and those that have an effect.
const FIELDS: &[(&str, &str)] = &[
    ("google.longrunning.CancelOperationRequest", "name"),
    ("google.longrunning.DeleteOperationRequest", "name"),
    ("google.longrunning.GetOperationRequest", "name"),
    (
        "google.longrunning.ListOperationsRequest",
        "name filter page_size page_token return_partial_success",
    ),
    ("google.longrunning.WaitOperationRequest", "name timeout"),
    ("longhaul.v1.Callback", "uri events endpoint format include_result headers"),
    ("longhaul.v1.BatchStartOperationsRequest", "parent requests"),
    (
        "longhaul.v1.CompleteOperationRequest",
        "name lease_token response metadata related_resources progress",
    ),
    ("longhaul.v1.Concurrency", "key limit policy"),
    ("longhaul.v1.CreateLinkRequest", "name verbs ttl"),
    ("longhaul.v1.CreateTokenRequest", "token_id token"),
    ("longhaul.v1.CreateTypeSetRequest", "parent type_set_id type_set request_id validate_only"),
    ("longhaul.v1.DeleteTokenRequest", "name"),
    (
        "longhaul.v1.CreateWebhookEndpointRequest",
        "parent webhook_endpoint_id webhook_endpoint request_id validate_only algorithm",
    ),
    ("longhaul.v1.DeleteWebhookEndpointRequest", "name etag allow_missing validate_only"),
    ("longhaul.v1.GetWebhookEndpointRequest", "name"),
    ("longhaul.v1.ListWebhookEndpointsRequest", "parent page_size page_token"),
    ("longhaul.v1.ResumeWebhookEndpointRequest", "name etag"),
    ("longhaul.v1.RotateWebhookEndpointRequest", "name etag overlap request_id algorithm"),
    ("longhaul.v1.TestWebhookEndpointRequest", "name"),
    ("longhaul.v1.GetWebhookDeliveryRequest", "name"),
    ("longhaul.v1.ListWebhookDeliveriesRequest", "parent page_size page_token state"),
    ("longhaul.v1.ReplayWebhookDeliveryRequest", "name"),
    ("longhaul.v1.UpdateWebhookEndpointRequest", "webhook_endpoint update_mask validate_only"),
    (
        "longhaul.v1.WebhookEndpoint",
        "name uid uri events filter format include_result headers handshake state state_detail fail_time \
         secrets etag create_time update_time",
    ),
    (
        "longhaul.v1.WebhookEndpoint.Secret",
        "id secret create_time expire_time algorithm public_key",
    ),
    ("longhaul.v1.DeleteTypeSetRequest", "name etag allow_missing validate_only"),
    ("longhaul.v1.DrainWorkerRequest", "queue worker"),
    ("longhaul.v1.ExportRecordsRequest", ""),
    (
        "longhaul.v1.FailOperationRequest",
        "name lease_token error retry_decision retry_delay metadata checkpoint",
    ),
    ("longhaul.v1.GetOperationRecordRequest", "name view"),
    ("longhaul.v1.GetOperationStatsRequest", "parent"),
    ("longhaul.v1.GetQueueRequest", "name"),
    ("longhaul.v1.GetTokenRequest", "name"),
    ("longhaul.v1.GetTypeSetRequest", "name view"),
    ("longhaul.v1.Grant", "role parent queues"),
    (
        "longhaul.v1.LeaseOperationsRequest",
        "queue worker max_operations lease_duration wait_duration process",
    ),
    (
        "longhaul.v1.OperationOptions",
        "priority schedule_time attempt_timeout deadline_time queue_timeout cancel_grace retry_policy \
         concurrency expire_time ttl callbacks labels target metadata_policy",
    ),
    (
        "longhaul.v1.ListOperationRecordsRequest",
        "parent filter order_by page_size page_token return_partial_success view",
    ),
    ("longhaul.v1.ListQueuesRequest", "page_size page_token"),
    ("longhaul.v1.ListTokensRequest", "page_size page_token"),
    ("longhaul.v1.ListTypeSetsRequest", "parent page_size page_token view"),
    ("longhaul.v1.ListWorkersRequest", "queue page_size page_token"),
    ("longhaul.v1.PauseOperationRequest", "name etag reason"),
    ("longhaul.v1.RerunOperationRequest", "name request request_id"),
    (
        "longhaul.v1.RerunOperationsRequest",
        "parent filter max_count page_token validate_only request_id",
    ),
    ("longhaul.v1.CreateJobRequest", "parent job_id job validate_only request_id"),
    (
        "longhaul.v1.Job",
        "name display_name template schedule overlap_policy catch_up_window history_limit paused etag uid \
         create_time update_time next_run_time last_tick_time skipped_tick_count missed_count \
         active_executions backfilling",
    ),
    ("longhaul.v1.JobTemplate", "queue method request response_type options"),
    ("longhaul.v1.Schedule", "cron interval calendar time_zone jitter start_time end_time"),
    ("longhaul.v1.Calendar", "months days weekdays hours minutes seconds"),
    ("longhaul.v1.GetJobRequest", "name"),
    ("longhaul.v1.ListJobsRequest", "parent page_size page_token"),
    ("longhaul.v1.UpdateJobRequest", "job update_mask allow_missing validate_only request_id"),
    ("longhaul.v1.DeleteJobRequest", "name etag force request_id"),
    ("longhaul.v1.RunJobRequest", "name etag request_id"),
    ("longhaul.v1.PauseJobRequest", "name etag request_id"),
    ("longhaul.v1.ResumeJobRequest", "name etag request_id"),
    ("longhaul.v1.BackfillJobRequest", "name start_time end_time validate_only request_id"),
    ("longhaul.v1.ListUpcomingRunsRequest", "name page_size start_time"),
    ("longhaul.v1.GetExecutionRequest", "name"),
    ("longhaul.v1.ListExecutionsRequest", "parent page_size page_token filter order_by"),
    ("longhaul.v1.DeleteExecutionRequest", "name"),
    ("longhaul.v1.PauseQueueRequest", "name etag"),
    ("longhaul.v1.Progress", "fraction completed_units total_units unit message update_time"),
    (
        "longhaul.v1.Queue",
        "name state max_running max_leases_per_second aging_interval etag pending_operations \
         running_operations oldest_pending_time leases_per_second workers last_lease_request_time \
         unserved",
    ),
    ("longhaul.v1.RelatedResource", "name uri type relation create_time"),
    ("longhaul.v1.ReleaseLeaseRequest", "name lease_token checkpoint delay"),
    ("longhaul.v1.RenewLeasesRequest", "renewals"),
    (
        "longhaul.v1.RenewLeasesRequest.Renewal",
        "name lease_token lease_duration cancel_acknowledged",
    ),
    (
        "longhaul.v1.ReportProgressRequest",
        "name lease_token progress metadata checkpoint partial_errors related_resources lease_duration \
         cancel_acknowledged status_detail report_number",
    ),
    ("longhaul.v1.ResumeOperationRequest", "name etag input"),
    ("longhaul.v1.ResumeQueueRequest", "name etag"),
    ("longhaul.v1.ResumeWorkerRequest", "queue worker"),
    (
        "longhaul.v1.RetryPolicy",
        "max_attempts initial_backoff max_backoff backoff_multiplier retryable_codes",
    ),
    ("longhaul.v1.RotateTokenRequest", "name grace_duration"),
    (
        "longhaul.v1.ServeQueueRequest",
        "sequence seen_sequence hello slots reports completions failures releases suspensions",
    ),
    (
        "longhaul.v1.ServeQueueRequest.Hello",
        "queue worker lease_duration reconnect_grace held process",
    ),
    ("longhaul.v1.ServeQueueRequest.Held", "name lease_token"),
    ("longhaul.v1.StartLeasedOperationRequest", "start worker lease_duration"),
    (
        "longhaul.v1.StartOperationRequest",
        "parent operation_id queue method request metadata_type response_type initial_metadata options \
         validate_only request_id",
    ),
    (
        "longhaul.v1.SuspendOperationRequest",
        "name lease_token reason metadata checkpoint resume_time",
    ),
    (
        "longhaul.v1.Token",
        "name uid etag create_time expire_time grants rotate_time creator secret",
    ),
    (
        "longhaul.v1.TypeSet",
        "name file_descriptor_set uid etag create_time file_count message_count size_bytes",
    ),
    ("longhaul.v1.UpdateQueueRequest", "queue update_mask"),
    ("longhaul.v1.WorkerProcess", "host process_id start_time sdk_language sdk_version"),
    ("longhaul.v1.WatchOperationRequest", "name resume_token min_interval heartbeat_interval view"),
    (
        "longhaul.v1.WatchOperationsRequest",
        "parent filter resume_token min_interval heartbeat_interval view",
    ),
];
