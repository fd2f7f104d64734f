//! The worker as a Lambda function on `provided.al2023`.

use bellwire_telemetry::{FLUSH_TIMEOUT_DEFAULT, LogFormat, Unexported};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use wine_worker::{Invocation, Store};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let telemetry =
        bellwire_telemetry::init("wine-worker", LogFormat::Auto, Unexported::PassContext)?;
    let store = Store::from_environment().await;
    let (telemetry, store) = (&telemetry, &store);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Invocation>| async move {
        // Boxed: the SDK's futures are deep, and the runtime's are around them.
        let job = Box::pin(wine_worker::run(store, event.payload, &event.context.request_id));
        let result = job.await;
        // The process is frozen once it has answered.
        telemetry.flush(FLUSH_TIMEOUT_DEFAULT);
        result
    }))
    .await
}
