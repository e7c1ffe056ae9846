//! How fast is it, and can the answer be trusted? Load against an inference server, measured from
//! the moment each request was meant to be sent, with a verdict on whether the numbers hold.

pub mod load;
