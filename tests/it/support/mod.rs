//! A whole server in this process: gRPC clients above, a store of its own below, and a clock that the test moves.

pub(crate) mod answers;
pub(crate) mod clock;
pub(crate) mod cut;
pub(crate) mod fixture;
pub(crate) mod frames;
pub(crate) mod http;
pub(crate) mod identity;
pub(crate) mod issuer;
pub(crate) mod requests;
pub(crate) mod rest;
pub(crate) mod sets;
pub(crate) mod stores;
pub(crate) mod stream;
pub(crate) mod waiting;
pub(crate) mod worker;

pub(crate) use self::answers::{Answer, assert_at, error_info, error_of, response_of};
pub(crate) use self::cut::Wire;
pub(crate) use self::fixture::Fixture;
pub(crate) use self::requests::*;
pub(crate) use self::sets::{SetEventType, SetWatcher};
pub(crate) use self::stream::WorkerStream;
pub(crate) use self::waiting::{Call, Watcher, within};
pub(crate) use longhaul::proto::google::longrunning::{Operation, operation::Result as Outcome};
pub(crate) use longhaul::proto::google::protobuf::Any;
pub(crate) use longhaul::proto::google::rpc::Status as RpcStatus;
pub(crate) use longhaul::proto::longhaul::v1 as pb;
pub(crate) use pb::operation_record::State;
pub(crate) use pb::watch_operation_response::Type as EventType;
pub(crate) use std::time::Duration;
pub(crate) use tonic::Code;

/// Makes a test of each scenario on each store: `embedded::scenario` and `redis::scenario`. Those that stand behind
/// `over every face;` are played over HTTP too: `http_embedded::scenario` and `http_redis::scenario`.
macro_rules! scenarios {
    (over every face; $($name:ident),+ $(,)? $(; over grpc; $($other:ident),+ $(,)?)?) => {
        $crate::support::scenarios!($($name,)+ $($($other,)+)?);
        mod http_embedded {
            $(
                #[tokio::test]
                async fn $name() {
                    let fixture = $crate::support::Fixture::embedded().await.over_http().await;
                    super::$name(&fixture).await;
                    fixture.stop().await;
                }
            )+
        }
        mod http_redis {
            $(
                #[tokio::test]
                async fn $name() {
                    let fixture = $crate::support::Fixture::redis().await.over_http().await;
                    super::$name(&fixture).await;
                    fixture.stop().await;
                }
            )+
        }
    };
    ($($name:ident),+ $(,)?) => {
        mod embedded {
            $(
                #[tokio::test]
                async fn $name() {
                    let fixture = $crate::support::Fixture::embedded().await;
                    super::$name(&fixture).await;
                    fixture.stop().await;
                }
            )+
        }
        mod redis {
            $(
                #[tokio::test]
                async fn $name() {
                    let fixture = $crate::support::Fixture::redis().await;
                    super::$name(&fixture).await;
                    fixture.stop().await;
                }
            )+
        }
    };
}
pub(crate) use scenarios;
