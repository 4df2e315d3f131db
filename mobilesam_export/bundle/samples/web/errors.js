/**
 * Every error of this sample: `message` is a sentence for people, `code` one of `ErrorCode` in
 * mobilesam.d.ts.
 */
export class MobileSAMError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "MobileSAMError";
    this.code = code;
  }
}
