/** What went wrong; `message` of the error says it in words. */
export type ErrorCode =
  | "unsupported" // a page opened from file://, or no WebAssembly SIMD
  | "missing-file" // a file of the bundle, or the runtime, cannot be downloaded
  | "damaged-file" // a file of the bundle is not the one that was exported
  | "bad-image"
  | "no-image" // `segment` before `setImage`
  | "bad-prompt"
  | "outside" // a point outside the image
  | "too-many-points"
  | "runtime"
  | "closed";

export class MobileSAMError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string);
}

export interface Point {
  /** Pixels of the image from its left and top edge. */
  x: number;
  y: number;
  /** 1 (default): part of it. 0: not part of it. */
  label?: 0 | 1;
}

export interface Prompt {
  points?: Point[];
  /** x0, y0, x1, y1 in pixels of the image. */
  box?: [number, number, number, number] | null;
  /** `logits` of an earlier result, to refine it with further points. */
  previousMask?: Float32Array | null;
}

export interface ImageInfo {
  /** Pixels, after EXIF rotation: the frame of all coordinates. */
  width: number;
  height: number;
  /** A copy for display, at most 2048 pixels wide or high. */
  bitmap: ImageBitmap;
  /** Milliseconds that preprocessing and the encoder took. */
  ms: number;
}

export interface Result {
  /** width * height bytes, 1 inside the mask. */
  mask: Uint8Array;
  width: number;
  height: number;
  /** The model's own estimate of the mask's IoU, about 0 to 1. */
  score: number;
  /** (S/4)^2 logits; pass them as `previousMask` to refine this mask. */
  logits: Float32Array;
  /** The mask for display: white where it is, transparent elsewhere; of the display copy's size. */
  bitmap: ImageBitmap;
  ms: number;
}

export interface Check {
  /** IMAGE or IMAGE/PROMPT. */
  name: string;
  /** Of an image: largest and mean difference of the encoder's input, in 1/255. */
  inputMax?: number;
  inputMean?: number;
  /** Of an image: PSNR of the embedding; the peak is its largest absolute value. */
  psnrDb?: number;
  /** Of a prompt: intersection over union of the mask with PyTorch's. */
  iou?: number;
  passed: boolean;
}

export interface Weights {
  /** "official", "demo", "seeded:SALT", or the name of the file that was exported. */
  source: string;
  /** false: masks look like noise. */
  trained: boolean;
}

export interface LoadOptions {
  /** Address of the bundle's folder, with a slash at its end; default: the one around this file. */
  bundle?: string;
  /** Address of onnxruntime-web's `dist/`; default: node_modules beside this file, else a CDN. */
  runtime?: string;
  /** "auto": WebGPU if there is a GPU and it answers the golden vectors rightly, else wasm. */
  device?: "auto" | "wasm" | "webgpu";
  onProgress?: (progress: { text: string; loaded: number; total: number }) => void;
}

/**
 * One model and one image. Calls are queued: each is answered after the one before it. The first
 * `setImage` takes longer than later ones because the runtime allocates its memory then, unless
 * `warmUp` was called before.
 */
export class MobileSAM {
  private constructor();
  static load(options?: LoadOptions): Promise<MobileSAM>;
  readonly info: {
    device: "wasm" | "webgpu";
    threads: number;
    target: string;
    recipe: string;
    slots: number;
    weights: Weights;
  };
  setImage(image: Blob | ImageBitmap): Promise<ImageInfo>;
  segment(prompt: Prompt): Promise<Result>;
  warmUp(): Promise<void>;
  toPng(mask: Uint8Array, kind?: "mask" | "cutout"): Promise<Blob>;
  selfTest(): Promise<Check[]>;
  close(): void;
}
