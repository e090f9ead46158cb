#include "env/blocks/blocks_camera.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "env/canvas.h"

namespace gato::env::blocks {

namespace {

constexpr double kNear = 0.01;  // metres
constexpr Color kSky = {196, 208, 220}, kTable = {214, 200, 176}, kTableDark = {196, 181, 156}, kRim = {120, 104, 84},
                kFloor = {158, 166, 176};
constexpr Color kSteel = {150, 154, 162}, kDark = {70, 74, 84};
constexpr std::array<Color, kBlocks> kBlockColors = {{{214, 48, 44}, {56, 168, 72}, {52, 92, 220}}};
constexpr double kTableHalf = kReach + 0.05, kSquare = 0.05;

Vec3 operator+(Vec3 a, Vec3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
Vec3 operator-(Vec3 a, Vec3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
Vec3 operator*(double s, Vec3 a) { return {s * a.x, s * a.y, s * a.z}; }
double dot(Vec3 a, Vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
Vec3 cross(Vec3 a, Vec3 b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }
Vec3 unit(Vec3 a) { return 1 / std::sqrt(dot(a, a)) * a; }

/// A box turned about the vertical only.
struct Box {
  Vec3 middle, half;
  double yaw = 0;
  Color color;
};

/// Looks from `eye` along `ahead`; a pixel at (u, v) from the middle, in half sides, looks along ahead + u right - v
/// up.
struct View {
  Vec3 eye, ahead, right, up;
};

View look_at(Vec3 eye, Vec3 target, double spread, Vec3 upwards) {
  View view;
  view.eye = eye;
  view.ahead = unit(target - eye);
  const Vec3 right = unit(cross(view.ahead, upwards));
  view.up = spread * cross(right, view.ahead);
  view.right = spread * right;
  return view;
}

View view_of(const World& world, Camera camera) {
  if (camera == Camera::kFront) return look_at({0, -0.52, 0.42}, {0, 0.02, 0.05}, 0.47, {0, 0, 1});
  const Vec3 behind = {std::sin(world.yaw), -std::cos(world.yaw), 0};
  const Vec3 eye = world.tip + 0.07 * behind + Vec3{0, 0, 0.13};
  return look_at(eye, world.tip, 0.75, {0, 0, 1});
}

std::vector<Box> boxes_of(const World& world) {
  std::vector<Box> boxes;
  for (size_t i = 0; i < kBlocks; ++i) {
    boxes.push_back({world.blocks[i].at, {kHalf, kHalf, kHalf}, world.blocks[i].yaw, kBlockColors[i]});
  }
  const double c = std::cos(world.yaw), s = std::sin(world.yaw), apart = world.grip / 2 + kFingerRadius;
  for (const double sign : {-1.0, 1.0}) {
    boxes.push_back({world.tip + Vec3{sign * apart * c, sign * apart * s, kPalmHeight / 2 - kFingerRadius / 2},
                     {kFingerRadius, kFingerRadius, kPalmHeight / 2 + kFingerRadius / 2},
                     world.yaw,
                     kSteel});
  }
  boxes.push_back({world.tip + Vec3{0, 0, kPalmHeight + 0.008}, {0.05, 0.014, 0.008}, world.yaw, kDark});
  constexpr double kLinks = 0.46;  // height of the arm's links, which are above what the cameras see
  const double column = kLinks - world.tip.z - kPalmHeight;
  boxes.push_back({world.tip + Vec3{0, 0, kPalmHeight + column / 2}, {0.01, 0.01, column / 2}, world.yaw, kSteel});
  boxes.push_back({kBase + Vec3{0, 0, kLinks / 2}, {0.035, 0.035, kLinks / 2}, 0, kDark});
  return boxes;
}

Color shaded(Color color, double light) {
  const auto part = [&](uint8_t value) { return static_cast<uint8_t>(std::lround(std::min(255.0, light * value))); };
  return {part(color.red), part(color.green), part(color.blue)};
}

/// Pixels with their depths along the camera's axis.
class Picture {
 public:
  Picture(const View& view, int side)
      : view_(view), side_(side), depths_(static_cast<size_t>(side) * static_cast<size_t>(side), 1e9) {
    image_.width = image_.height = side;
    image_.pixels.resize(depths_.size() * 3);
  }

  /// Sky, floor, and the table with its squares.
  void draw_ground() {
    for (int y = 0; y < side_; ++y) {
      for (int x = 0; x < side_; ++x) {
        const Vec3 ray = ray_of(x, y);
        const double depth = ray.z < 0 ? -view_.eye.z / ray.z : 0;
        set(x, y, depth > 0 ? depth : 1e8, depth > 0 ? ground_color(view_.eye + depth * ray) : kSky);
      }
    }
  }

  void draw(const Box& box) {
    std::array<int, 4> area;  // left, top, right, bottom
    if (!area_of(box, area)) return;
    const double c = std::cos(box.yaw), s = std::sin(box.yaw);
    const auto turned = [&](Vec3 v) { return Vec3{c * v.x + s * v.y, c * v.y - s * v.x, v.z}; };
    const Vec3 eye = turned(view_.eye - box.middle);
    for (int y = area[1]; y <= area[3]; ++y) {
      for (int x = area[0]; x <= area[2]; ++x) {
        int face = 0;
        const double depth = meet(eye, turned(ray_of(x, y)), box.half, face);
        if (depth > kNear && depth < depths_[index(x, y)]) set(x, y, depth, shaded(box.color, light_of(face, c, s)));
      }
    }
  }

  [[nodiscard]] episode::Image take() && { return std::move(image_); }

 private:
  [[nodiscard]] size_t index(int x, int y) const {
    return static_cast<size_t>(y) * static_cast<size_t>(side_) + static_cast<size_t>(x);
  }

  [[nodiscard]] Vec3 ray_of(int x, int y) const {
    const double u = (2 * x + 1.0) / side_ - 1, v = (2 * y + 1.0) / side_ - 1;
    return view_.ahead + u * view_.right - v * view_.up;
  }

  void set(int x, int y, double depth, Color color) {
    depths_[index(x, y)] = depth;
    uint8_t* pixel = &image_.pixels[index(x, y) * 3];
    pixel[0] = color.red;
    pixel[1] = color.green;
    pixel[2] = color.blue;
  }

  static Color ground_color(Vec3 place) {
    if (std::abs(place.x) > kTableHalf + 0.02 || std::abs(place.y) > kTableHalf + 0.02) return kFloor;
    if (std::abs(place.x) > kTableHalf || std::abs(place.y) > kTableHalf) return kRim;
    // Both numbers are positive on the table, so that cutting them off rounds down.
    const int square =
        static_cast<int>((place.x + 1) * (1 / kSquare)) + static_cast<int>((place.y + 1) * (1 / kSquare));
    return square % 2 == 0 ? kTable : kTableDark;
  }

  /// Pixels that the box may cover; false: none. Cameras look downwards with all their rays, so that nothing above the
  /// eye is seen.
  bool area_of(const Box& box, std::array<int, 4>& area) const {
    if (box.middle.z - box.half.z >= view_.eye.z) return false;
    const double c = std::cos(box.yaw), s = std::sin(box.yaw);
    const double spread = dot(view_.right, view_.right);  // as of up
    double left = 1e9, top = 1e9, right = -1e9, bottom = -1e9;
    for (int corner = 0; corner < 8; ++corner) {
      const double x = (corner & 1 ? 1 : -1) * box.half.x, y = (corner & 2 ? 1 : -1) * box.half.y;
      const double z = (corner & 4 ? 1 : -1) * box.half.z;
      Vec3 from_eye = box.middle + Vec3{c * x - s * y, s * x + c * y, z} - view_.eye;
      from_eye.z = std::min(from_eye.z, 0.0);
      const double depth = dot(from_eye, view_.ahead);
      if (depth < kNear) {  // beside or behind the eye: everywhere
        area = {0, 0, side_ - 1, side_ - 1};
        return true;
      }
      const double u = dot(from_eye, view_.right) / (depth * spread), v = -dot(from_eye, view_.up) / (depth * spread);
      left = std::min(left, u), right = std::max(right, u), top = std::min(top, v), bottom = std::max(bottom, v);
    }
    const auto pixel = [&](double at) {
      return static_cast<int>(std::clamp(std::floor((at + 1) / 2 * side_), -1.0, static_cast<double>(side_)));
    };
    area = {std::max(0, pixel(left)), std::max(0, pixel(top)), std::min(side_ - 1, pixel(right)),
            std::min(side_ - 1, pixel(bottom))};
    return area[0] <= area[2] && area[1] <= area[3];
  }

  /// Depth at which a ray meets the box around the origin (0: it misses), and through which of the faces x, y, z; a
  /// sign says on which side.
  static double meet(Vec3 eye, Vec3 ray, Vec3 half, int& face) {
    const std::array<double, 3> origin = {eye.x, eye.y, eye.z}, along = {ray.x, ray.y, ray.z};
    const std::array<double, 3> reach = {half.x, half.y, half.z};
    double enters = -1e18, leaves = 1e18;
    for (size_t i = 0; i < 3; ++i) {
      if (std::abs(along[i]) < 1e-12) {
        if (std::abs(origin[i]) > reach[i]) return 0;
        continue;
      }
      const double sign = along[i] > 0 ? -1 : 1;
      const double per_depth = 1 / along[i];
      const double first = (sign * reach[i] - origin[i]) * per_depth, last = (-sign * reach[i] - origin[i]) * per_depth;
      if (first > enters) {
        enters = first;
        face = static_cast<int>(sign) * static_cast<int>(i + 1);
      }
      leaves = std::min(leaves, last);
    }
    return enters <= leaves ? enters : 0;
  }

  static double light_of(int face, double c, double s) {
    const double sign = face < 0 ? -1 : 1;
    Vec3 normal = {0, 0, sign};
    if (std::abs(face) == 1) normal = {sign * c, sign * s, 0};
    if (std::abs(face) == 2) normal = {-sign * s, sign * c, 0};
    return 0.62 + 0.4 * std::max(0.0, dot(normal, {0.39, -0.52, 0.76}));
  }

  View view_;
  int side_;
  std::vector<double> depths_;
  episode::Image image_;
};

}  // namespace

episode::Image draw_view(const World& world, Camera camera, int side) {
  Picture picture(view_of(world, camera), side);
  picture.draw_ground();
  for (const Box& box : boxes_of(world)) picture.draw(box);
  return std::move(picture).take();
}

}  // namespace gato::env::blocks
