//! Tests of the publisher from outside.

mod bridge;
mod cloud;
mod decode;
mod fakes;
mod fifo;
mod http;
mod lambda;
mod outbox;
mod process;
mod publish;
mod route;
mod samples;
mod settle;
mod trace;
mod wire;
