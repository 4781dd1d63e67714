// The camera: one frame at a time goes to the server, and the next one is the newest there is when the answer has come.

const REASONS = {
  NotAllowedError: "the browser was not allowed to use the camera: allow it in the address bar, and try again",
  NotFoundError: "no camera was found",
  NotReadableError: "the camera is in use by another program",
};
const LONGEST = 1280;  // pixels of the longer side of a frame that is sent

class CameraError extends Error {}

export class Camera {
  /**
   * @param {HTMLVideoElement} video - where the camera is shown
   * @param {(blob: Blob, signal: AbortSignal) => Promise<object>} send - asks the server for the detections of a frame
   * @param {(result: object, seconds: number) => void} show - takes them, with the time they took
   */
  constructor(video, send, show) {
    Object.assign(this, { video, send, show, canvas: document.createElement("canvas"), ended: new AbortController() });
  }

  /** Open the camera. Throws a CameraError that says why it cannot be used. */
  async open() {
    if (!navigator.mediaDevices?.getUserMedia)
      throw new CameraError(`browsers give the camera only to pages at localhost or over HTTPS, and this page is at `
        + `${location.origin}: on the machine of the server open http://localhost:${location.port}, or put TLS in front of it`);
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: { ideal: "environment" } } });
    } catch (error) {
      throw new CameraError(REASONS[error.name] ?? `the camera cannot be used: ${error.message}`);
    }
    this.stream.getVideoTracks()[0].addEventListener("ended", () => this.close());
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  /** Send frames until it is closed. Throws what `send` throws. */
  async run() {
    while (!this.ended.signal.aborted) {
      const began = performance.now(), result = await this.send(await this.frame(), this.ended.signal);
      if (!this.ended.signal.aborted) this.show(result, (performance.now() - began) / 1000);
    }
  }

  /** The newest frame, as JPEG. */
  frame() {
    const { videoWidth, videoHeight } = this.video, scale = Math.min(1, LONGEST / Math.max(videoWidth, videoHeight));
    this.canvas.width = Math.round(videoWidth * scale);
    this.canvas.height = Math.round(videoHeight * scale);
    this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    return new Promise(done => this.canvas.toBlob(done, "image/jpeg", 0.9));
  }

  /** End it, and switch the camera off. */
  close() {
    this.ended.abort();
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.video.srcObject = null;
  }
}
