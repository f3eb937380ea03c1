"""PSNR with its conventions, SSIM, library metrics, grid meters, and the one evaluator that uses them."""
