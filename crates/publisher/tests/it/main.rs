//! Tests of the publisher from outside.

mod bridge;
mod chaos;
mod check;
mod cloud;
mod corpora;
mod decode;
mod decoders;
mod deploy;
mod fakes;
mod fifo;
mod http;
mod lambda;
mod metrics;
mod outbox;
mod process;
mod publish;
mod route;
mod samples;
mod settle;
mod trace;
mod wire;
